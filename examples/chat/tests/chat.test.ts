import assert from "node:assert/strict";
import { test } from "node:test";
import { buildPrompt } from "../src/lib/chat/openai";
import { composeAnswer, paced, sourcesOf } from "../src/lib/chat/retrieval";
import { encodeEvent, readEvents } from "../src/lib/http/sse";
import type { Passage } from "../src/lib/search/keyword";
import { fuseRankings } from "../src/lib/search/semantic";

const passage = (documentName: string, content: string, position = 0): Passage => ({ documentId: `id-${documentName}`, documentName, r2Key: documentName, position, content });

const PASSAGES = [
  passage("house.md", "## Bath\n\nThe bath is open from 17:00 until 23:00. Please wash first."),
  passage("town.md", "The station is far. The bath house in town closes at 20:00."),
  passage("house.md", "Breakfast is at 7:30.", 1),
];

test("an answer quotes sentences that bear on the question, with their sources", () => {
  const question = "When does the bath open?";
  const sources = sourcesOf(PASSAGES, question, (key) => `/f/${key}`);
  assert.deepEqual(sources.map(({ number, documentName }) => [number, documentName]), [[1, "house.md"], [2, "town.md"]]);
  const answer = composeAnswer(question, PASSAGES, sources, 2).join("");
  assert.match(answer, /No language model is configured/);
  assert.match(answer, /- The bath is open from 17:00 until 23:00\. \[1\]/);
  assert.doesNotMatch(answer, /Breakfast|station/);
});

test("a document that is named is quoted from its beginning", () => {
  const question = "What does “town” say?";
  const passages = [passage("town.md", "The station is far. Take the bus.")];
  assert.match(composeAnswer(question, passages, sourcesOf(passages, question, String), 2).join(""), /- The station is far\. \[1\]/);
});

test("with nothing to quote the answer says so, in the language of the question", () => {
  assert.match(composeAnswer("Where is Mars?", PASSAGES, sourcesOf(PASSAGES, "", String), 2).join(""), /found nothing/);
  assert.match(composeAnswer("火星はどこ？", [], [], 2).join(""), /見つかりませんでした/);
  assert.match(composeAnswer("Hello", [], [], 0).join(""), /no documents yet/);
});

test("pacing gives every sentence, and none after the reader has left", async () => {
  const heard: string[] = [];
  const leaving = new AbortController();
  for await (const sentence of paced(["a", "b", "c"], leaving.signal)) {
    heard.push(sentence);
    if (sentence === "b") leaving.abort();
  }
  assert.deepEqual(heard, ["a", "b"]);
});

test("the prompt has the passages, numbered as the sources, and the newest of the talk", () => {
  const turns = Array.from({ length: 20 }, (_, index) => ({ role: "user" as const, content: `${index} ${"x".repeat(1500)}` }));
  const [system, ...rest] = buildPrompt(turns, PASSAGES, sourcesOf(PASSAGES, "bath", String));
  assert.match(system?.content ?? "", /\[1\] house\.md\n## Bath/);
  assert.match(system?.content ?? "", /\[2\] town\.md/);
  assert.ok(rest.length < 10 && rest.at(-1)?.content.startsWith("19 "));
  assert.equal(buildPrompt([{ role: "user", content: "y".repeat(20_000) }], [], []).length, 2, "the question itself always goes along");
});

test("events survive whatever way the bytes are cut", async () => {
  const bytes = new TextEncoder().encode(`${encodeEvent("delta", { text: "縁側\n\nend" })}: comment\n\ndata: a\r\ndata: b\r\n\r\ndata: [DONE]`);
  const expected = [
    { event: "delta", data: JSON.stringify({ text: "縁側\n\nend" }) },
    { event: "message", data: "a\nb" },
    { event: "message", data: "[DONE]" },
  ];
  for (const size of [1, 2, 3, 5, 7, 1000]) {
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.slice(i, i + size));
        controller.close();
      },
    });
    const events = [];
    for await (const event of readEvents(stream)) events.push(event);
    assert.deepEqual(events, expected, `in pieces of ${size}`);
  }
});

test("what both rankings know comes first", () => {
  assert.deepEqual(fuseRankings([["a", "b", "c"], ["d", "b"]], (item) => item), ["b", "a", "d", "c"]);
});
