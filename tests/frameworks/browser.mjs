// Uses an app of this folder as a person would, in headless Chromium: hydration, a client
// navigation, a form. Exits 0 when all of it works.
//
//   node browser.mjs BASE_URL NAME PATH_OF_PLAYWRIGHT_CORE [--whole-pages]
//
// --whole-pages: the framework has no client-side router, so a link loads a whole page.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [base, name, playwright, ...flags] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(resolve(playwright));
const browser = await chromium.launch({
  executablePath: process.env.ENGAWA_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage();
page.setDefaultTimeout(60_000);

const problems = [];
page.on("pageerror", (error) => problems.push(`page: ${error.stack}`));
page.on("console", (message) => {
  // Chromium asks for an icon by itself, and no app has one.
  if (message.type() !== "error" || message.location().url.endsWith("/favicon.ico")) return;
  problems.push(`console: ${message.text()} (${message.location().url})`);
});
page.on("request", (request) => {
  const { origin, protocol } = new URL(request.url());
  if (protocol.startsWith("http") && origin !== new URL(base).origin) problems.push(`asked ${request.url()}`);
});

const heading = (text) => page.waitForFunction((text) => document.querySelector("h1")?.textContent === text, text);
const note = (key, text) => page.waitForSelector(`li:text-is("${key}: ${text}")`);

try {
  await page.goto(base);
  await heading(`Home of ${name}`);

  // A click before the page has come to life is lost, so it is repeated; one counts.
  await page.waitForFunction(() => {
    const button = document.querySelector("#count");
    if (button?.textContent === "count 0") button.click();
    return /^count [1-9]/.test(button?.textContent ?? "");
  }, undefined, { polling: 100 });
  console.log("ok - a button counts");

  await page.evaluate(() => { window.isTheSamePage = true; });
  await page.click('nav a:text-is("Notes")');
  await heading(`Notes of ${name}`);
  assert.equal(new URL(page.url()).pathname.replace(/\/$/, ""), "/notes");
  assert.equal(
    await page.evaluate(() => window.isTheSamePage === true),
    !flags.includes("--whole-pages"),
    "a link is followed on the client",
  );
  console.log("ok - a link leads to a page with data");

  for (const [key, text] of [["first", "from a browser"], ["second", "縁側 & <b>"]]) {
    await page.fill('form [name="key"]', key);
    await page.fill('form [name="text"]', text);
    await page.click("#save");
    await note(key, text);
    await heading(`Notes of ${name}`);
  }
  await page.goto(`${base}/notes`);
  await note("first", "from a browser");
  await note("second", "縁側 & <b>");
  console.log("ok - a form stores");

  await page.click('nav a:text-is("About")');
  await heading(`About ${name}`);
  await page.goBack();
  await heading(`Notes of ${name}`);
  console.log("ok - back");

  assert.deepEqual(problems, []);
} catch (error) {
  console.error(`at ${page.url()}:\n${(await page.content().catch(() => "")).slice(0, 4000)}\n`);
  for (const problem of problems) console.error(problem);
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
