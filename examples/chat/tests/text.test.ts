import assert from "node:assert/strict";
import { test } from "node:test";
import { PASSAGE_CHARACTERS, splitDocumentIntoChunks, splitIntoPassages } from "../src/lib/documents/chunk";
import { contentTypeOf, extractText } from "../src/lib/documents/extract";
import { questionTerms, searchTerms, snippetAround } from "../src/lib/search/terms";
import { splitSentences, truncate } from "../src/lib/text";

const bytes = (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer;

async function chunksOf(text: string, maxSize: number): Promise<string[]> {
  const chunks: string[] = [];
  for await (const chunk of splitDocumentIntoChunks(new Blob([text]), { maxSize })) chunks.push(chunk);
  return chunks;
}

test("chunks stay within their size, end with lines, and join to the whole", async () => {
  const text = Array.from({ length: 400 }, (_, index) => `行 ${index}: 縁側で読む`).join("\n");
  const chunks = await chunksOf(text, 1000);
  assert.equal(chunks.join(""), text);
  for (const chunk of chunks) assert.ok(new TextEncoder().encode(chunk).length <= 1000);
  for (const chunk of chunks.slice(0, -1)) assert.ok(chunk.endsWith("\n"));
});

test("a line longer than a chunk is cut between characters", async () => {
  const text = "縁側🍵é".repeat(200);
  for (const maxSize of [7, 10, 11, 64, 100]) assert.equal((await chunksOf(text, maxSize)).join(""), text, `chunks of ${maxSize}`);
  assert.deepEqual(await chunksOf("", 10), []);
  assert.deepEqual(await chunksOf("abc", 10), ["abc"]);
});

test("passages keep a heading with its text and none is too long", () => {
  const passages = splitIntoPassages(`# Title\n\nIntro.\n\n## Bath\n\nOpen at five.\n\n${"Long sentence here. ".repeat(200)}\n\n${"長".repeat(3000)}`);
  assert.ok(passages.includes("## Bath\n\nOpen at five."));
  for (const passage of passages) assert.ok(passage.length <= PASSAGE_CHARACTERS, `${passage.length}`);
  assert.equal(passages.join("").replace(/[^長]/g, "").length, 3000);
});

test("the kinds of documents become text", () => {
  assert.equal(extractText(bytes("a\r\nb"), "text/plain"), "a\nb");
  assert.equal(extractText(bytes("ＡＢ１２、ｶﾞｲﾄﾞ！"), "text/plain"), "AB12、ガイド！");
  const html = extractText(bytes("<title>T &amp; U</title><style>p{}</style><p>One<br>two</p><script>alert(1)</script><ul><li>&#26085;&#x672C;</ul>"), "text/html");
  assert.equal(html, "T & U\n\nOne\ntwo\n\n日本");
  assert.equal(extractText(bytes('{"a":{"b":[1,"x"]},"c":null}'), "application/json"), "a.b 1: 1\na.b 2: x\nc: null");
  assert.equal(extractText(bytes('Name,Note\nAki,"says ""hi"", twice"\n\nBen,\n'), "text/csv"), 'Name: Aki; Note: says "hi", twice\nName: Ben');
  assert.throws(() => extractText(bytes("{"), "application/json"), /not valid JSON/);
  assert.throws(() => extractText(bytes("a\0b"), "text/plain"), /does not contain text/);
});

test("older encodings are read", () => {
  const decode = (...values: number[]) => extractText(new Uint8Array(values).buffer, "text/plain");
  assert.equal(decode(0x93, 0xfa, 0x96, 0x7b), "日本"); // Shift_JIS
  assert.equal(decode(0xc6, 0xfc, 0xcb, 0xdc), "日本"); // EUC-JP
  assert.equal(decode(0xff, 0xfe, 0xe5, 0x65, 0x2c, 0x67), "日本"); // UTF-16 LE
  assert.equal(decode(0xef, 0xbb, 0xbf, 0x61), "a"); // UTF-8 with a mark
});

test("no document, however odd, takes more than its length in time", () => {
  const size = 1024 * 1024;
  for (const odd of ["<!--", "<", "<script>", "<p", "&", "&#", '"', ",", "a.", "!", "。", "「", "# ", "\n\n", "[", "*"]) {
    const text = odd.repeat(size / odd.length);
    for (const type of ["text/html", "text/csv", "text/plain"]) splitIntoPassages(extractText(bytes(text), type));
    splitSentences(text.slice(0, size / 4));
  }
  const wide = JSON.stringify({ ["k".repeat(size)]: Array.from({ length: 10_000 }, () => 0) });
  assert.ok(extractText(bytes(wide), "application/json").length < 10_000 * 300);
});

test("a deep JSON file does not exhaust the stack", () => {
  const deep = `${"[".repeat(20_000)}1${"]".repeat(20_000)}`;
  let text = "";
  try {
    text = extractText(bytes(deep), "application/json");
  } catch (error) {
    assert.match(String(error), /not valid JSON/);
    return;
  }
  assert.match(text, /: 1$/);
});

test("the type comes from the name", () => {
  assert.equal(contentTypeOf("a.b.MD"), "text/markdown");
  assert.equal(contentTypeOf("縁側.csv"), "text/csv");
  for (const name of ["a.exe", "noextension", "x.constructor", ""]) assert.throws(() => contentTypeOf(name), /cannot be read/);
});

test("sentences end where a reader would say", () => {
  assert.deepEqual(splitSentences("It costs 3.50 euros. See example.com now! Really?"), ["It costs 3.50 euros.", "See example.com now!", "Really?"]);
  assert.deepEqual(splitSentences("朝です。「昼です。」夜！"), ["朝です。", "「昼です。」", "夜！"]);
  assert.deepEqual(splitSentences("- one\n- two"), ["- one", "- two"]);
  assert.deepEqual(splitSentences("..."), []);
});

test("terms of a query and of a question", () => {
  assert.deepEqual(searchTerms("  Cypress  BATH, cypress "), ["cypress", "bath"]);
  assert.deepEqual(searchTerms("ＡＢＣ！？"), ["abc"]);
  assert.deepEqual(searchTerms("!?"), []);
  assert.deepEqual(questionTerms("When do the baths open?"), ["bath", "open"]);
  assert.deepEqual(questionTerms("床板はどうやって磨きますか？"), ["床板", "磨"]);
  assert.deepEqual(questionTerms("有給休暇はいつ？"), ["有給休暇", "有給", "休暇"]);
  assert.deepEqual(questionTerms("「縁側」には何が書いてありますか？"), ["縁側"]);
  assert.deepEqual(questionTerms("チェックイン"), ["チェックイン"]);
  assert.deepEqual(questionTerms("Where is it?"), ["where", "is", "it"], "stop words, where there is nothing else");
});

test("a snippet shows the first hit and marks all", () => {
  const { snippet, highlights } = snippetAround(`${"x ".repeat(300)}The Bath and the bathtub.${" y".repeat(300)}`, ["bath", "bathtub"]);
  assert.ok(snippet.startsWith("…") && snippet.endsWith("…"));
  assert.deepEqual(highlights.map(([start, end]) => snippet.slice(start, end)), ["Bath", "bathtub"]);
  assert.deepEqual(snippetAround("## Bath\n\nIt is **warm**.", ["warm"]).snippet, "Bath · It is warm.");
  assert.deepEqual(snippetAround("", ["a"]), { snippet: "", highlights: [] });
  assert.deepEqual(snippetAround("aaaa", ["aa", "a"]).highlights, [[0, 4]]);
});

test("truncate never halves a character", () => {
  assert.equal(truncate("ab🍵", 3), "ab");
  assert.equal(truncate("ab🍵", 4), "ab🍵");
});
