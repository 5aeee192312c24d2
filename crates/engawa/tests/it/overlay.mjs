// An edit that does not build, seen in a browser: the page stays and the error lies over it,
// until it is closed or the edit is mended.
//
//   node overlay.mjs BASE_URL FILE_TO_EDIT PATH_OF_PLAYWRIGHT_CORE
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [base, file, playwright] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(resolve(playwright));
const write = (text) => writeFileSync(file, text);
const good = (name) => `export const onRequest = () => new Response("${name}");\n`;
const broken = "export const onRequest = () => new Response(;\n";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(base);
  const heading = page.getByRole("heading", { name: "It" });
  const overlay = page.locator("engawa-error").getByRole("alert");
  await heading.waitFor();
  assert.equal(await overlay.count(), 0);
  const mark = () => page.evaluate(() => globalThis.mark ?? "a new page");
  await page.evaluate(() => (globalThis.mark = "the first page"));

  write(broken);
  await overlay.waitFor();
  const text = await overlay.innerText();
  assert.match(text, /The build failed; the last good version is shown\./);
  assert.match(text, /functions\/hello\.js:1/);
  assert.match(text, /new Response\(;/);
  assert.ok(await heading.isVisible(), "the page is still there");
  assert.equal(await mark(), "the first page");
  const answer = await page.evaluate(async () => (await fetch("/hello")).text());
  assert.equal(answer, "first", "the good version goes on answering");

  // Someone who comes now sees the page and the error too.
  const late = await browser.newPage();
  await late.goto(base);
  await late.locator("engawa-error").getByRole("alert").waitFor();
  await late.close();

  await overlay.getByRole("button", { name: "Close" }).click();
  await overlay.waitFor({ state: "detached" });
  assert.equal(await mark(), "the first page");

  write(good("second"));
  await page.waitForFunction(() => globalThis.mark === undefined);
  await heading.waitFor();
  assert.equal(await overlay.count(), 0);
  assert.equal(await page.evaluate(async () => (await fetch("/hello")).text()), "second");

  // Back to what is served: the error goes without a new page.
  await page.evaluate(() => (globalThis.mark = "the second page"));
  write(broken);
  await overlay.waitFor();
  write(good("second"));
  await overlay.waitFor({ state: "detached" });
  assert.equal(await mark(), "the second page");
} finally {
  await browser.close();
}
