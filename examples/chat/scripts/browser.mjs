// Uses the application as a person would, in headless Chromium, on a phone and on a desktop.
// Exits 0 when all of it works; leaves pictures in SCREENSHOT_DIR.
//
//   node scripts/browser.mjs BASE_URL SCREENSHOT_DIR [PATH_OF_PLAYWRIGHT_CORE]
//
// playwright-core is no dependency of the application: it comes from the third argument or NODE_PATH.
// CHROMIUM names another browser than /usr/bin/chromium.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [base, directory, playwrightPath] = process.argv.slice(2);
if (!base || !directory) {
  console.error("Usage: node scripts/browser.mjs BASE_URL SCREENSHOT_DIR [PATH_OF_PLAYWRIGHT_CORE]");
  process.exit(2);
}
// require, unlike import, looks into NODE_PATH.
const { chromium } = createRequire(import.meta.url)(playwrightPath ? resolve(playwrightPath) : "playwright-core");
mkdirSync(directory, { recursive: true });

const HANDBOOK = `# Guest house handbook

## Arrival
Check-in begins at 15:00 and ends at 21:00. The front door code changes every Friday.

## The bath
The cypress bath is open from 17:00 until 23:00. Please wash before entering the water. Towels for the bath are in the basket by the door.

## Breakfast
Breakfast is served on the veranda at 7:30. Tell us about allergies one day before.
`;
const MANUAL = "縁側の手入れについて。\n床板は月に一度、米ぬかで磨いてください。雨の日は雨戸を閉めます。\n庭の灯籠は夕方に点けてください。\n";

const id = (name) => `[data-testid="${name}"]`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const problems = [];
let passed = 0;

async function visit(label, contextOptions) {
  const isPhone = contextOptions.viewport.width < 768;
  const context = await browser.newContext({ ...contextOptions, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => problems.push(`${label}: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`${label}: ${message.text()}`);
  });
  const shot = async (name) => {
    await page.screenshot({ path: join(directory, `${label}-${name}.png`) });
  };
  const step = async (name, run) => {
    try {
      await run();
    } catch (error) {
      await page.screenshot({ path: join(directory, `${label}-FAILED.png`) }).catch(() => undefined);
      throw new Error(`${label}: ${name}`, { cause: error });
    }
    passed += 1;
    console.log(`ok ${passed} - ${label}: ${name}`);
  };
  const openMenu = async () => {
    if (isPhone) await page.click(id("menu-button"));
  };
  const noSidewaysScroll = async () => {
    const overflow = await page.evaluate(() =>
      Math.max(...["html", "#content", ".chat-scroll"].flatMap((selector) => {
        const element = document.querySelector(selector);
        return element ? [element.scrollWidth - element.clientWidth] : [];
      })),
    );
    assert.ok(overflow <= 0, `the page is ${overflow} px wider than the screen`);
  };

  await step("signs in", async () => {
    await page.goto(base);
    await page.waitForSelector(id("sign-in-form"));
    await shot("1-sign-in");
    await noSidewaysScroll();
    await page.fill(id("sign-in-name"), "Aki");
    await page.fill(id("sign-in-email"), `aki-${crypto.randomUUID().slice(0, 8)}@example.com`);
    await page.click(id("sign-in-submit"));
    await page.waitForSelector(id("welcome"));
    await shot("2-welcome");
    await noSidewaysScroll();
  });

  await step("uploads documents", async () => {
    await openMenu();
    await page.click(id("nav-documents"));
    await page.waitForURL("**/documents");
    await page.setInputFiles(id("file-input"), [
      { name: "handbook.md", mimeType: "text/markdown", buffer: Buffer.from(HANDBOOK) },
      { name: "縁側の手入れ.txt", mimeType: "text/plain", buffer: Buffer.from(MANUAL) },
    ]);
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, id("document"));
    await shot("3-documents");
    await noSidewaysScroll();
  });

  await step("is told why a file is refused", async () => {
    await page.setInputFiles(id("file-input"), [{ name: "notes.json", mimeType: "application/json", buffer: Buffer.from("{ not json") }]);
    await page.waitForSelector(`${id("uploads")} >> text=not valid JSON`);
    await page.click(`${id("uploads")} button`);
    // The refusal itself is expected to be in the console.
    const expected = problems.findIndex((text) => text.includes("422"));
    if (expected >= 0) problems.splice(expected, 1);
  });

  await step("finds a document by search, in English and Japanese", async () => {
    await page.fill(id("search-input"), "cypress bath");
    await page.click(id("search-submit"));
    await page.waitForSelector(`${id("search-hit")} >> text=handbook.md`);
    assert.ok((await page.locator(`${id("search-hit")} mark`).allTextContents()).includes("cypress"));
    await shot("4-search");
    await page.fill(id("search-input"), "雨戸");
    await page.press(id("search-input"), "Enter");
    await page.waitForSelector(`${id("search-hit")} >> text=縁側の手入れ.txt`);
    await noSidewaysScroll();
  });

  let answer = "";
  await step("sends a message and sees the answer stream", async () => {
    await openMenu();
    await page.click(id("new-conversation"));
    await page.waitForSelector(id("composer-input"));
    // Notes each length that the growing answer has on the page.
    await page.evaluate((selector) => {
      globalThis.answerLengths = [];
      new MutationObserver(() => {
        const length = document.querySelector(selector)?.textContent.length ?? 0;
        if (length > 0 && length !== globalThis.answerLengths.at(-1)) globalThis.answerLengths.push(length);
      }).observe(document.body, { childList: true, characterData: true, subtree: true });
    }, id("answer-text"));
    await page.fill(id("composer-input"), "When is the cypress bath open, and where are the towels?");
    await page.press(id("composer-input"), "Enter");
    await page.waitForSelector(`${id("message-user")} >> text=When is the cypress bath open`);
    await page.waitForSelector(`${id("message-assistant")}[data-arriving="false"]`);
    const lengths = await page.evaluate(() => globalThis.answerLengths);
    const steps = lengths.filter((length, index) => index === 0 || length > lengths[index - 1]);
    assert.ok(steps.length >= 2, `the text grew in steps, not at once: ${lengths.join(", ")}`);
    answer = await page.locator(id("answer-text")).last().innerText();
    await page.waitForSelector(id("sources"));
    if (await page.locator(`${id("answers-note")} >> text=No language model`).count()) assert.match(answer, /17:00 until 23:00/);
    await shot("5-answer");
    await page.locator(`${id("sources")} summary`).last().click();
    await page.waitForSelector(`${id("sources")} >> text=handbook.md`);
    await shot("6-sources");
    await noSidewaysScroll();
  });

  await step("asks in Japanese", async () => {
    await page.fill(id("composer-input"), "床板はどうやって磨きますか？");
    await page.click(id("composer-send"));
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, `${id("message-assistant")}[data-arriving="false"]`);
    await shot("7-japanese");
  });

  await step("reloads and finds everything still there", async () => {
    await page.reload();
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, id("message-assistant"));
    assert.equal(await page.locator(id("answer-text")).first().innerText(), answer);
    assert.equal(await page.locator(id("message-user")).count(), 2);
    await openMenu();
    await page.waitForSelector(`${id("conversation-list")} >> text=When is the cypress bath open`);
    await shot("8-after-reload");
    await page.click(id("nav-documents"));
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, id("document"));
    await page.fill(id("search-input"), "towels");
    await page.click(id("search-submit"));
    await page.waitForSelector(`${id("search-hit")} >> text=handbook.md`);
  });

  await step("opens the conversation from the list", async () => {
    await openMenu();
    await page.click(`${id("conversation-list")} >> text=When is the cypress bath open`);
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, id("message-assistant"));
  });

  await step("changes the appearance and sees the quotas", async () => {
    await openMenu();
    await page.click(id("account-button"));
    await page.waitForSelector(`${id("account-dialog")} meter`);
    await shot("9-account");
    await page.locator(id("account-dialog")).getByLabel("Dark").check();
    await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
    await page.keyboard.press("Escape");
    if (isPhone) await page.keyboard.press("Escape");
    await shot("10-dark");
  });

  await step("deletes a document", async () => {
    await openMenu();
    await page.click(id("nav-documents"));
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 2, id("document"));
    await page.locator(id("document"), { hasText: "handbook.md" }).locator(id("delete-document")).click();
    await page.waitForSelector(`dialog[open] ${id("confirm")}`);
    await shot("11-delete");
    await page.click(id("confirm"));
    await page.waitForFunction((selector) => document.querySelectorAll(selector).length === 1, id("document"));
    await page.fill(id("search-input"), "allergies");
    await page.click(id("search-submit"));
    await page.waitForSelector(`${id("search-results")} >> text=Nothing found`);
    await shot("12-documents-dark");
  });

  await step("signs out", async () => {
    await openMenu();
    await page.click(id("account-button"));
    await page.click(id("sign-out"));
    await page.waitForSelector(id("sign-in-form"));
    await page.reload();
    await page.waitForSelector(id("sign-in-form"));
  });
  await context.close();
}

try {
  await visit("desktop", { viewport: { width: 1280, height: 800 } });
  await visit("phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
  const dark = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "dark" });
  const page = await dark.newPage();
  await page.goto(base);
  await page.waitForSelector(id("sign-in-form"));
  await page.screenshot({ path: join(directory, "desktop-dark-sign-in.png") });
  assert.deepEqual(problems, [], "errors in the page or its console");
  console.log(`\n${passed} passed, 0 failed`);
} catch (error) {
  console.error(error);
  if (problems.length > 0) console.error("In the page:", problems);
  console.log(`\n${passed} passed, 1 failed`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
