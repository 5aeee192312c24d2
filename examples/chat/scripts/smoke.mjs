// Walks through the whole application over HTTP. Exits 0 when all of it works.
//
//   node scripts/smoke.mjs BASE_URL
//
// Needs the migrations applied, and sign-in without Clerk. Each run uses accounts of its own.
import assert from "node:assert/strict";

const base = process.argv[2]?.replace(/\/+$/, "");
if (!base) {
  console.error("Usage: node scripts/smoke.mjs BASE_URL");
  process.exit(2);
}

/** One browser: keeps its cookies. */
class Client {
  cookies = new Map();

  async call(method, path, { json, form, headers = {}, status } = {}) {
    const response = await fetch(base + path, {
      method,
      headers: {
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; "),
        ...headers,
      },
      body: form ?? (json === undefined ? undefined : JSON.stringify(json)),
      signal: AbortSignal.timeout(60_000),
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value, rest] = /^([^=]+)=([^;]*)(.*)$/.exec(cookie);
      assert.match(rest, /HttpOnly/, `the cookie ${name} is HttpOnly`);
      if (/Max-Age=0(;|$)/.test(rest)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    if (status !== undefined && response.status !== status) {
      assert.fail(`${method} ${path} answered ${response.status}, not ${status}: ${await response.text()}`);
    }
    return response;
  }

  async json(method, path, options) {
    return await (await this.call(method, path, options)).json();
  }

  async upload(name, text, type = "text/plain") {
    const form = new FormData();
    form.set("file", new File([text], name, { type }));
    return (await this.json("POST", "/api/v1/documents", { form, status: 201 })).document;
  }

  async search(query, parameters = {}) {
    const { hits } = await this.json("GET", `/api/v1/search?${new URLSearchParams({ q: query, ...parameters })}`, { status: 200 });
    return hits;
  }

  /** The events of one answer, each with the time at which it arrived. */
  async ask(conversationId, content) {
    const response = await this.call("POST", `/api/v1/conversations/${conversationId}/messages`, { json: { content }, status: 200 });
    assert.match(response.headers.get("content-type"), /^text\/event-stream/);
    const events = [];
    let pending = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      pending += decoder.decode(chunk, { stream: true });
      const blocks = pending.split("\n\n");
      pending = blocks.pop();
      for (const block of blocks) {
        const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(block);
        events.push({ event, data: JSON.parse(data), at: performance.now() });
      }
    }
    return events;
  }
}

let steps = 0;
async function step(name, run) {
  const start = performance.now();
  await run();
  steps += 1;
  console.log(`ok ${steps} - ${name} (${Math.round(performance.now() - start)} ms)`);
}

const run = crypto.randomUUID().slice(0, 8);
const aki = new Client();
const ben = new Client();
const stranger = new Client();
const akiDetails = { name: "秋 Aki", email: `aki-${run}@example.com` };
let conversation;
let handbook;
let manual;

const HANDBOOK = `# Guest house handbook

## Arrival
Check-in begins at 15:00 and ends at 21:00. The front door code changes every Friday.

## The bath
The cypress bath is open from 17:00 until 23:00. Please wash before entering the water.

## Breakfast
Breakfast is served on the veranda at 7:30. Tell us about allergies one day before.
`;
const MANUAL = "縁側の手入れについて。\n床板は月に一度、米ぬかで磨いてください。雨の日は雨戸を閉めます。\n有給休暇の申請は三日前までに提出してください。\n";

try {
  await step("the site is served", async () => {
    const page = await stranger.call("GET", "/", { status: 200 });
    assert.match(page.headers.get("content-type"), /^text\/html/);
    assert.equal(page.headers.get("x-frame-options"), "DENY", "_headers holds");
    const html = await page.text();
    assert.match(html, /<meta http-equiv="Content-Security-Policy" content="[^"]*script-src 'self'/);
    const script = /src="(\/_next\/static\/[^"]+\.js)"/.exec(html)?.[1];
    assert.ok(script, "the page names a script");
    const asset = await stranger.call("GET", script, { status: 200 });
    assert.match(asset.headers.get("content-type"), /javascript/);
    assert.match(asset.headers.get("cache-control"), /immutable/);
    await asset.arrayBuffer();
    await stranger.call("GET", "/documents", { status: 200 });
    await stranger.call("GET", "/no-such-page", { status: 404 });
  });

  await step("nothing is shown to someone who is not signed in", async () => {
    assert.deepEqual(await stranger.json("GET", "/api/v1/session", { status: 200 }), { user: null });
    for (const path of ["conversations", "documents", "search?q=bath", "usage", "metrics", "files/document/x/y.txt"]) {
      const { error } = await stranger.json("GET", `/api/v1/${path}`, { status: 401 });
      assert.equal(error.code, "signed_out");
    }
  });

  await step("sign-in checks what it is given", async () => {
    await stranger.call("POST", "/api/v1/session", { json: { name: "X", email: "nonsense" }, status: 400 });
    await stranger.call("POST", "/api/v1/session", { json: { name: " ", email: "x@example.com" }, status: 400 });
    await stranger.call("POST", "/api/v1/session", { json: { name: "x".repeat(70_000), email: "x@example.com" }, status: 413 });
    await stranger.call("POST", "/api/v1/session", { json: akiDetails, headers: { origin: "https://evil.example" }, status: 403 });
    await stranger.call("GET", "/api/v1/no-such-thing", { status: 404 });
    const wrong = await stranger.call("PUT", "/api/v1/session", { status: 405 });
    assert.match(wrong.headers.get("allow"), /POST/);
  });

  await step("two people sign in", async () => {
    const { user } = await aki.json("POST", "/api/v1/session", { json: akiDetails, status: 201 });
    assert.equal(user.name, akiDetails.name);
    assert.equal(user.email, akiDetails.email);
    await ben.call("POST", "/api/v1/session", { json: { name: "Ben", email: `ben-${run}@example.com` }, status: 201 });
    assert.equal((await aki.json("GET", "/api/v1/session", { status: 200 })).user.email, akiDetails.email);
  });

  await step("an address opens only in the browser that first used it", async () => {
    const { error } = await stranger.json("POST", "/api/v1/session", { json: akiDetails, status: 403 });
    assert.equal(error.code, "email_taken");
  });

  await step("without documents the answer says so", async () => {
    ({ conversation } = await aki.json("POST", "/api/v1/conversations", { json: {}, status: 201 }));
    const { answers } = await aki.json("GET", "/api/v1/config", { status: 200 });
    if (answers !== "retrieval") return;
    const events = await aki.ask(conversation.id, "When is breakfast?");
    assert.equal(events.at(-1).event, "done");
    assert.match(events.at(-1).data.message.content, /no documents yet/i);
  });

  await step("documents are taken, in English and Japanese", async () => {
    handbook = await aki.upload(`handbook-${run}.md`, HANDBOOK, "text/markdown");
    assert.equal(handbook.status, "ready");
    assert.ok(handbook.chunkCount >= 4, "each section is a passage");
    manual = await aki.upload(`手入れ-${run}.txt`, MANUAL);
    assert.equal(manual.name, `手入れ-${run}.txt`);
    const { documents } = await aki.json("GET", "/api/v1/documents", { status: 200 });
    assert.deepEqual(documents.map((item) => item.id), [manual.id, handbook.id]);
  });

  await step("HTML, JSON, CSV and Shift_JIS become text", async () => {
    await aki.upload("page.html", "<title>Garden</title><script>var hidden = 'scriptword'</script><p>Moss &amp; maple grow <b>slowly</b>.</p>");
    await aki.upload("data.json", JSON.stringify({ teahouse: { built: 1893, wood: "hinoki" } }));
    await aki.upload("prices.csv", 'Item,Price\n"Matcha, large",650\nSencha,400\n');
    await aki.upload("sjis.txt", new Uint8Array([0x93, 0xfa, 0x96, 0x7b, 0x8c, 0xea, 0x82, 0xcc, 0x95, 0xb6, 0x8f, 0x91])); // 日本語の文書
    assert.equal((await aki.search("maple"))[0].title, "page.html");
    assert.equal((await aki.search("scriptword")).length, 0);
    assert.equal((await aki.search("hinoki"))[0].title, "data.json");
    assert.match((await aki.search("matcha"))[0].snippet, /Item: Matcha, large; Price: 650/);
    assert.equal((await aki.search("日本語の文書"))[0].title, "sjis.txt");
  });

  await step("an upload of unknown length is taken, and bounded", async () => {
    const send = async (text, status) => {
      const parts = ['--b\r\ncontent-disposition: form-data; name="file"; filename="stream.txt"\r\n\r\n', ...text, "\r\n--b--\r\n"];
      const body = ReadableStream.from(parts.map((part) => new TextEncoder().encode(part)));
      const response = await fetch(`${base}/api/v1/documents`, {
        method: "POST",
        headers: { "content-type": "multipart/form-data; boundary=b", cookie: [...aki.cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
        body,
        duplex: "half",
      });
      assert.equal(response.status, status, await response.clone().text());
      return await response.json();
    };
    const { document } = await send(["A heron ", "by the pond."], 201);
    assert.equal((await aki.search("heron"))[0].id, document.id);
    await aki.call("DELETE", `/api/v1/documents/${document.id}`, { status: 204 });
    const megabyte = "x".repeat(1024 * 1024);
    assert.equal((await send(Array.from({ length: 11 }, () => megabyte), 413)).error.code, "too_large");
  });

  await step("uploads are checked", async () => {
    const send = (name, body, status) => {
      const form = new FormData();
      form.set("file", new File([body], name));
      return aki.json("POST", "/api/v1/documents", { form, status });
    };
    assert.equal((await send("program.exe", "MZ", 415)).error.code, "unsupported_file_type");
    await send("empty.txt", "", 400);
    await send("broken.json", "{", 422);
    await send("binary.txt", new Uint8Array([0x61, 0, 0x62]), 415);
    await aki.call("POST", "/api/v1/documents", { json: {}, status: 415 });
    assert.equal((await send("huge.txt", "x".repeat(10 * 1024 * 1024 + 1), 413)).error.code, "too_large");
    const { documents } = await aki.json("GET", "/api/v1/documents", { status: 200 });
    assert.equal(documents.length, 6, "what was refused left nothing behind");
  });

  await step("search finds them", async () => {
    const [hit] = await aki.search("cypress bath");
    assert.equal(hit.id, handbook.id);
    const marked = hit.highlights.map(([start, end]) => hit.snippet.slice(start, end).toLowerCase());
    assert.ok(marked.includes("cypress") && marked.includes("bath"));
    assert.equal((await aki.search("米ぬか"))[0].id, manual.id, "three characters, by the index");
    assert.equal((await aki.search("雨戸"))[0].id, manual.id, "two characters, by LIKE");
    assert.equal((await aki.search("有給休暇 申請"))[0].id, manual.id, "a long and a short word");
    assert.equal((await aki.search("有給休暇はいつ申請しますか"))[0].id, manual.id, "a whole question");
    assert.equal((await aki.search('"; DROP TABLE')).length, 0);
    assert.equal((await aki.search("100%")).length, 0, "% is a character");
    await aki.call("GET", "/api/v1/search?q=", { status: 400 });
    await aki.call("GET", `/api/v1/search?q=${"x".repeat(201)}`, { status: 400 });
  });

  await step("search by meaning works or says that it is not configured", async () => {
    const { search } = await aki.json("GET", "/api/v1/config", { status: 200 });
    if (search.semantic) {
      assert.ok(Array.isArray(await aki.search("bathing hours", { type: "semantic" })));
    } else {
      const { error } = await aki.json("GET", "/api/v1/search?q=bath&type=hybrid", { status: 409 });
      assert.equal(error.code, "semantic_not_configured");
    }
  });

  await step("an answer streams, with its source", async () => {
    const events = await aki.ask(conversation.id, "When does the cypress bath open?");
    const kinds = events.map(({ event }) => event);
    assert.deepEqual(kinds.slice(0, 2), ["user_message", "sources"]);
    assert.equal(kinds.at(-1), "done");
    const deltas = events.filter(({ event }) => event === "delta");
    assert.ok(deltas.length >= 2, `the answer came in ${deltas.length} pieces`);
    assert.ok(deltas.at(-1).at - deltas[0].at > 20, "the pieces came one after the other");
    const { message } = events.at(-1).data;
    assert.equal(message.content, deltas.map(({ data }) => data.text).join("").trim());
    if (message.model === "retrieval") {
      assert.match(message.content, /17:00 until 23:00/);
      assert.match(message.content, /\[1\]/);
      assert.equal(message.sources[0].documentId, handbook.id);
    }
  });

  await step("a Japanese question is answered from the Japanese document", async () => {
    const events = await aki.ask(conversation.id, "床板はどうやって磨きますか？");
    const { message } = events.at(-1).data;
    if (message.model === "retrieval") assert.match(message.content, /米ぬかで磨いてください/);
  });

  await step("the conversation is kept", async () => {
    const { conversation: kept, messages } = await aki.json("GET", `/api/v1/conversations/${conversation.id}`, { status: 200 });
    assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user", "assistant"]);
    assert.equal(kept.title, "When is breakfast?");
    const hits = await aki.search("床板はどうやって");
    assert.ok(hits.some((hit) => hit.kind === "message" && hit.id === conversation.id), "messages are found too");
    await aki.call("PATCH", `/api/v1/conversations/${conversation.id}`, { json: { title: "Bath times" }, status: 200 });
    const { conversations } = await aki.json("GET", "/api/v1/conversations", { status: 200 });
    assert.equal(conversations[0].title, "Bath times");
  });

  await step("a reader who leaves keeps what arrived", async () => {
    const leaving = new AbortController();
    const response = await fetch(`${base}/api/v1/conversations/${conversation.id}/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", cookie: [...aki.cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
      body: JSON.stringify({ content: "Tell me about check-in, the bath and breakfast" }),
      signal: leaving.signal,
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let heard = "";
    while (!heard.includes("event: delta")) heard += (await reader.read()).value;
    leaving.abort();
    const { messages } = await aki.json("GET", `/api/v1/conversations/${conversation.id}`, { status: 200 });
    const question = messages.findIndex(({ content }) => content.startsWith("Tell me about check-in"));
    assert.ok(question >= 0, "the question is stored");
    // The server learns of it a little later.
    for (let tries = 0; tries < 50; tries += 1) {
      const { messages: later } = await aki.json("GET", `/api/v1/conversations/${conversation.id}`, { status: 200 });
      if (later[question + 1]?.role === "assistant" && later[question + 1].content !== "") return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.fail("the answer, as far as it got, was not stored");
  });

  await step("files come back to their owner, with ranges and conditions", async () => {
    const whole = await aki.call("GET", handbook.fileUrl, { status: 200 });
    assert.equal(await whole.text(), HANDBOOK);
    assert.equal(whole.headers.get("x-content-type-options"), "nosniff");
    assert.match(whole.headers.get("cache-control"), /^private/);
    const etag = whole.headers.get("etag");
    const part = await aki.call("GET", handbook.fileUrl, { headers: { range: "bytes=2-6" }, status: 206 });
    assert.equal(await part.text(), "Guest");
    assert.equal(part.headers.get("content-range"), `bytes 2-6/${new TextEncoder().encode(HANDBOOK).length}`);
    await aki.call("GET", handbook.fileUrl, { headers: { "if-none-match": etag }, status: 304 });
    const japanese = await aki.call("GET", manual.fileUrl, { status: 200 });
    assert.equal(await japanese.text(), MANUAL);
  });

  await step("nobody else sees any of it", async () => {
    assert.deepEqual((await ben.json("GET", "/api/v1/conversations", { status: 200 })).conversations, []);
    assert.deepEqual((await ben.json("GET", "/api/v1/documents", { status: 200 })).documents, []);
    assert.deepEqual(await ben.search("cypress bath"), []);
    await ben.call("GET", `/api/v1/conversations/${conversation.id}`, { status: 404 });
    await ben.call("PATCH", `/api/v1/conversations/${conversation.id}`, { json: { title: "Mine" }, status: 404 });
    await ben.call("DELETE", `/api/v1/conversations/${conversation.id}`, { status: 404 });
    await ben.call("POST", `/api/v1/conversations/${conversation.id}/messages`, { json: { content: "Hello" }, status: 404 });
    await ben.call("DELETE", `/api/v1/documents/${handbook.id}`, { status: 404 });
    await ben.call("GET", handbook.fileUrl, { status: 404 });
  });

  await step("a document of several megabytes is read in pieces", async () => {
    const line = "The quick brown fox jumps over the lazy dog near the old stone lantern.\n";
    const text = line.repeat(Math.ceil((2.5 * 1024 * 1024) / line.length)) + "The very last line names a kingfisher.\n";
    const large = await aki.upload("large.txt", text);
    assert.ok(large.chunkCount > 2000, `${large.chunkCount} passages`);
    assert.equal((await aki.search("kingfisher"))[0].id, large.id);
    await aki.call("DELETE", `/api/v1/documents/${large.id}`, { status: 204 });
    assert.equal((await aki.search("kingfisher")).length, 0);
  });

  await step("a deleted document is gone everywhere", async () => {
    await aki.call("DELETE", `/api/v1/documents/${handbook.id}`, { status: 204 });
    await aki.call("DELETE", `/api/v1/documents/${handbook.id}`, { status: 404 });
    await aki.call("GET", handbook.fileUrl, { status: 404 });
    assert.ok((await aki.search("cypress")).every((hit) => hit.kind === "message"));
  });

  await step("usage is counted", async () => {
    const { usage } = await aki.json("GET", "/api/v1/usage", { status: 200 });
    assert.equal(usage.length, 8);
    assert.ok(usage.find(({ metric }) => metric === "requests").used > 0, "requests are counted");
    assert.ok(usage.find(({ metric }) => metric === "d1Queries").used > 0, "queries are counted");
  });

  await step("preferences stay with the session", async () => {
    await aki.call("PATCH", "/api/v1/session", { json: { theme: "plaid" }, status: 400 });
    await aki.call("PATCH", "/api/v1/session", { json: { theme: "dark" }, status: 200 });
    assert.equal((await aki.json("GET", "/api/v1/session", { status: 200 })).user.theme, "dark");
  });

  await step("a deleted conversation is gone, and so is what was said in it", async () => {
    await aki.call("DELETE", `/api/v1/conversations/${conversation.id}`, { status: 204 });
    await aki.call("GET", `/api/v1/conversations/${conversation.id}`, { status: 404 });
    assert.ok(!(await aki.search("床板はどうやって")).some((hit) => hit.kind === "message"));
  });

  await step("signing out ends the session; signing in again opens the same account", async () => {
    const old = aki.cookies.get("chat_session");
    await aki.call("DELETE", "/api/v1/session", { status: 200 });
    const replay = new Client();
    replay.cookies.set("chat_session", old);
    await replay.call("GET", "/api/v1/documents", { status: 401 });
    await aki.call("POST", "/api/v1/session", { json: akiDetails, status: 201 });
    const { documents } = await aki.json("GET", "/api/v1/documents", { status: 200 });
    assert.ok(documents.some(({ id }) => id === manual.id));
  });
  console.log(`\n${steps} passed, 0 failed`);
} catch (error) {
  console.error(`not ok ${steps + 1}\n${error instanceof Error ? (error.stack ?? error.message) : error}`);
  console.log(`\n${steps} passed, 1 failed`);
  process.exit(1);
}
