import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { ClerkVerifier } from "../src/lib/auth/clerk";
import { KVCacheManager } from "../src/lib/cache/kv";
import { streamCompletion } from "../src/lib/chat/openai";
import type { Env } from "../src/lib/env";
import { SemanticIndex, semanticMissing } from "../src/lib/search/semantic";
import { openNamespace } from "./parts";

/** The outside services, as servers on this machine that speak their protocols. */

interface Call {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: any;
}

async function serve(t: TestContext, answer: (call: Call, response: ServerResponse) => void): Promise<{ url: string; calls: Call[] }> {
  const calls: Call[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => (text += chunk));
    request.on("end", () => {
      const call = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body: text === "" ? null : JSON.parse(text) };
      calls.push(call);
      answer(call, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

const env = (part: Partial<Env>): Env => ({ OPENAI_API_KEY: "sk-test", PINECONE_API_KEY: "pc-test", ...part }) as Env;

async function collect(stream: AsyncGenerator<string>): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

test("a completion streams from any endpoint that speaks OpenAI's protocol", async (t) => {
  const { url, calls } = await serve(t, (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n');
    response.write('data: {"choices":[{"delta":{"content":"縁"}}]}\n\ndata: {"choices":[{"delta":');
    response.write('{"content":"側 [1]"}}]}\n\ndata: {"choices":[],"usage":{}}\n\n');
    response.end("data: [DONE]\n\n");
  });
  const pieces = await collect(
    streamCompletion(env({ OPENAI_BASE_URL: `${url}/v1/`, OPENAI_MODEL: "m" }), [{ role: "user", content: "?" }], new AbortController().signal),
  );
  assert.deepEqual(pieces, ["縁", "側 [1]"]);
  assert.equal(calls[0]?.path, "/v1/chat/completions");
  assert.equal(calls[0]?.headers.authorization, "Bearer sk-test");
  assert.equal(calls[0]?.body.stream, true);
  assert.equal(calls[0]?.body.model, "m");
});

test("what goes wrong with the model is said in plain words", async (t) => {
  t.mock.method(console, "warn", () => undefined);
  for (const [status, words] of [[401, /OPENAI_API_KEY/], [404, /OPENAI_MODEL/], [429, /busy/], [500, /error \(500\)/]] as const) {
    const { url } = await serve(t, (_, response) => response.writeHead(status).end("{}"));
    await assert.rejects(collect(streamCompletion(env({ OPENAI_BASE_URL: url }), [], new AbortController().signal)), words);
  }
  const { url } = await serve(t, (_, response) => response.end('data: {"error":{"message":"internal detail"}}\n\n'));
  await assert.rejects(collect(streamCompletion(env({ OPENAI_BASE_URL: url }), [], new AbortController().signal)), /stopped with an error/);
  const broken = await serve(t, (_, response) => {
    response.write('data: {"choices":[{"delta":{"content":"Half"}}]}\n\n', () => response.destroy());
  });
  await assert.rejects(collect(streamCompletion(env({ OPENAI_BASE_URL: broken.url }), [], new AbortController().signal)), /broke off/);
  const short = await serve(t, (_, response) => response.end('data: {"choices":[{"delta":{"content":"Half"}}]}\n\n'));
  await assert.rejects(collect(streamCompletion(env({ OPENAI_BASE_URL: short.url }), [], new AbortController().signal)), /broke off/);
  await assert.rejects(collect(streamCompletion(env({ OPENAI_BASE_URL: "http://127.0.0.1:1" }), [], new AbortController().signal)), /could not be reached/);
});

test("passages go to the vector index and come back by meaning", async (t) => {
  const vectors = new Map<string, number[]>();
  const { url, calls } = await serve(t, ({ path, body }, response) => {
    response.setHeader("content-type", "application/json");
    if (path === "/embeddings") {
      // Out of order, as the protocol allows.
      const data = body.input.map((text: string, index: number) => ({ index, embedding: [text.length, 1] })).reverse();
      response.end(JSON.stringify({ data }));
    } else if (path === "/indexes/my-index") response.end(JSON.stringify({ host: url }));
    else if (path === "/vectors/upsert") {
      for (const { id, values } of body.vectors) vectors.set(`${body.namespace}/${id}`, values);
      response.end("{}");
    } else if (path === "/query") {
      const matches = [...vectors.keys()].filter((key) => key.startsWith(`${body.namespace}/`)).map((key) => ({ id: key.split("/")[1], score: 0.9 }));
      response.end(JSON.stringify({ matches: matches.slice(0, body.topK) }));
    } else if (path === "/vectors/delete") {
      for (const id of body.ids) vectors.delete(`${body.namespace}/${id}`);
      response.end("{}");
    } else response.writeHead(404).end("{}");
  });
  const cache = new KVCacheManager(openNamespace().kv);
  const index = new SemanticIndex(env({ OPENAI_BASE_URL: url, PINECONE_API_URL: url, PINECONE_INDEX: "my-index" }), cache);
  await index.add("u1", Array.from({ length: 100 }, (_, position) => ({ documentId: "d1", position, content: "x".repeat(position + 1) })));
  assert.equal(vectors.size, 100);
  assert.deepEqual(vectors.get("u1/d1#41"), [42, 1]);
  assert.equal(calls.filter(({ path }) => path === "/embeddings").length, 2);
  assert.equal(calls.filter(({ path }) => path === "/indexes/my-index").length, 1, "the index's host is cached");

  const matches = await index.search("u1", "hello", 3);
  assert.deepEqual(matches[0], { documentId: "d1", position: 0, score: 0.9 });
  assert.equal(matches.length, 3);
  await index.search("u1", "hello", 3);
  assert.equal(calls.filter(({ path }) => path === "/embeddings").length, 3, "a query's vector is cached");
  assert.deepEqual(await index.search("u2", "hello", 3), []);
  await index.remove("u1", "d1", 100);
  assert.equal(vectors.size, 0);
  assert.equal(calls.find(({ path }) => path === "/query")?.headers["api-key"], "pc-test");
});

test("what search by meaning lacks is named", () => {
  assert.equal(semanticMissing(env({})), null);
  assert.match(semanticMissing({} as Env) ?? "", /PINECONE_API_KEY and OPENAI_API_KEY are not set/);
  assert.match(semanticMissing(env({ PINECONE_API_KEY: "" })) ?? "", /PINECONE_API_KEY is not set/);
});

test("Clerk's user must have a verified address", async (t) => {
  let status = "verified";
  const { url, calls } = await serve(t, (_, response) =>
    response.end(
      JSON.stringify({
        first_name: "Aki",
        last_name: null,
        primary_email_address_id: "e2",
        email_addresses: [
          { id: "e1", email_address: "old@example.com", verification: { status: "verified" } },
          { id: "e2", email_address: "Aki@Example.com", verification: { status } },
        ],
      }),
    ),
  );
  const clerk = new ClerkVerifier({ CLERK_SECRET_KEY: "sk_test", CLERK_API_URL: url }, new KVCacheManager(openNamespace().kv));
  assert.deepEqual(await clerk.user("user_1"), { email: "aki@example.com", name: "Aki" });
  assert.equal(calls[0]?.path, "/v1/users/user_1");
  assert.equal(calls[0]?.headers.authorization, "Bearer sk_test");
  status = "unverified";
  await assert.rejects(clerk.user("user_1"), { status: 403 });
});
