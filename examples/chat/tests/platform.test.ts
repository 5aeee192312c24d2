import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { AnalyticsDashboard } from "../src/lib/analytics/dashboard";
import { MetricsCollector } from "../src/lib/analytics/metrics";
import { verifyToken, type PublicKey } from "../src/lib/auth/clerk";
import { cookieHeader, readCookie } from "../src/lib/auth/cookies";
import { alertsFor, CostMonitor, UsageRecorder } from "../src/lib/cost/monitor";
import { DatabaseManager } from "../src/lib/db/d1";
import { HttpError, errorResponse } from "../src/lib/http/errors";
import { Router } from "../src/lib/http/router";
import { readJson, requireEmail, requireText } from "../src/lib/http/validate";
import { CloudflareLogger } from "../src/lib/logging/cloudflare";
import { base64UrlEncode } from "../src/lib/text";
import { openDatabase, openDataset, openNamespace, withoutSqlite } from "./parts";

test("queries reach analytics only as their SHA-256", async () => {
  const { dataset, points } = openDataset();
  const metrics = new MetricsCollector(dataset);
  await metrics.trackSearchQuery({ userId: "u", query: " My Secret ", resultCount: 3, searchTime: 12, searchType: "keyword" });
  const hash = createHash("sha256").update("my secret").digest("hex");
  assert.deepEqual(points, [{ blobs: ["u", "keyword", hash], doubles: [3, 12], indexes: ["search_query"] }]);
});

test("metrics have the specification's shape", async () => {
  const { dataset, points } = openDataset();
  const metrics = new MetricsCollector(dataset);
  await metrics.trackChatMessage({ userId: "u", conversationId: "c", messageLength: 5, responseTime: 7, model: "m", hasRAG: true });
  await metrics.trackFileUpload({ userId: "u", fileSize: 9, fileType: "text/csv", processingTime: 2 });
  assert.deepEqual(points, [
    { blobs: ["u", "c", "m", "rag"], doubles: [5, 7], indexes: ["chat_message"] },
    { blobs: ["u", "text/csv"], doubles: [9, 2], indexes: ["file_upload"] },
  ]);
});

test("requests go to analytics, critical errors also to KV for 7 days", async (t) => {
  t.mock.method(console, "error", () => undefined);
  const { dataset, points } = openDataset();
  const { kv, values } = openNamespace();
  const logger = new CloudflareLogger(dataset, kv);
  await logger.logRequest(new Request("https://chat.example/api/v1/x?q=private"), new Response(null, { status: 204 }), Date.now());
  assert.deepEqual(points[0]?.blobs, ["GET", "/api/v1/x", "204", "unknown"]);

  await logger.logError(new HttpError(400, "bad", "expected"), {});
  assert.equal(values.size, 0);
  await logger.logError(new TypeError("boom"), { path: "/x" });
  const [[key, stored]] = [...values] as [[string, { value: string; expirationTtl: number }]];
  assert.match(key, /^error:\d+:/);
  assert.equal(stored.expirationTtl, 604800);
  assert.equal(JSON.parse(stored.value).message, "boom");
  assert.deepEqual(points.at(-1)?.indexes, ["error_log"]);
});

test("an alert is due from 80 % of a quota", () => {
  assert.deepEqual(alertsFor({ kvWrites: 799 }), []);
  assert.equal(alertsFor({ kvWrites: 800 })[0]?.text, "KV writes at 80 % of the daily limit of 1,000");
  assert.equal(alertsFor({ r2StorageBytes: 9 * 1024 ** 3 })[0]?.text, "R2 storage at 90 % of the limit of 10 GB");
});

test("usage adds up, and each alert goes out once in its period", { skip: withoutSqlite }, async (t) => {
  const warnings = t.mock.method(console, "warn", () => undefined);
  const mails: { headers: Record<string, unknown>; body: { subject: string; to: unknown } }[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      mails.push({ headers: request.headers, body: JSON.parse(body) });
      response.writeHead(201).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const brevo = {
    BREVO_API_KEY: "key",
    BREVO_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    BREVO_SENDER: "from@example.com",
    ALERT_EMAIL: "to@example.com",
  };

  let now = Date.parse("2024-12-15T12:00:00Z");
  const db = new DatabaseManager(openDatabase().db);
  const monitor = new CostMonitor(db, brevo, () => now);
  const record = async (writes: number) => {
    const usage = new UsageRecorder();
    usage.add("kvWrites", writes);
    await monitor.record(usage);
  };
  const used = async () => (await monitor.overview()).find(({ metric }) => metric === "kvWrites")?.used;
  await record(500);
  assert.equal(mails.length, 0);
  await record(300);
  await record(1);
  assert.equal(await used(), 801);
  assert.equal(mails.length, 1);
  assert.equal(mails[0]?.body.subject, "next-mastra-chat: KV writes at 80 % of the daily limit of 1,000");
  assert.deepEqual(mails[0]?.body.to, [{ email: "to@example.com" }]);
  assert.equal(mails[0]?.headers["api-key"], "key");

  now += 86_400_000;
  assert.equal(await used(), 0, "a new day");
  await record(900);
  assert.equal(mails.length, 2);

  const silent = new CostMonitor(db, {}, () => now + 86_400_000);
  await silent.trackUsage({ requests: 0, computeTime: 0, bandwidthGB: 0, kvReads: 0, kvWrites: 950, r2Storage: 0, r2Requests: 0, d1Queries: 0 });
  assert.equal(mails.length, 2, "without a key it is logged");
  assert.ok(warnings.mock.calls.some(({ arguments: [text] }) => String(text).includes("KV writes at 95 %")));
});

test("the dashboard asks with the account and gives the rows", async (t) => {
  let asked: { query: string; variables: Record<string, string> } | undefined;
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      asked = JSON.parse(body);
      const rows = [{ timestamp: "t", blobs: ["u"], doubles: [1] }];
      response.end(JSON.stringify({ data: { viewer: { accounts: [{ analyticsEngineDatasets: [{ data: rows }] }] } }, errors: null }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const dashboard = new AnalyticsDashboard({ CLOUDFLARE_ACCOUNT_ID: "acc", CLOUDFLARE_API_TOKEN: "tok", CLOUDFLARE_GRAPHQL_URL: url });
  assert.deepEqual(await dashboard.getChatMetrics({ start: "a", end: "b" }), [{ timestamp: "t", blobs: ["u"], doubles: [1] }]);
  assert.deepEqual(asked?.variables, { accountId: "acc", start: "a", end: "b" });
  assert.match(asked?.query ?? "", /chat_metrics/);
  assert.equal(new AnalyticsDashboard({}).isConfigured(), false);
});

test("the router knows parameters, rests, wrong methods and nothing", async () => {
  const router = new Router<null>()
    .on("GET", "things/:id", async (_, { id }) => new Response(`thing ${id}`))
    .on("DELETE", "things/:id", async () => new Response("gone"))
    .on("GET", "files/*key", async (_, { key }) => new Response(`file ${key}`));
  const ask = async (method: string, ...segments: string[]) => await (await router.handle(method, segments, null)).text();
  assert.equal(await ask("GET", "things", "7"), "thing 7");
  assert.equal(await ask("HEAD", "things", "7"), "thing 7");
  assert.equal(await ask("GET", "files", "a", "b.txt"), "file a/b.txt");
  await assert.rejects(ask("POST", "things", "7"), { status: 405, headers: { allow: "GET, DELETE" } });
  for (const segments of [["things"], ["things", "7", "8"], ["files"], []]) await assert.rejects(ask("GET", ...segments), { status: 404 });
});

test("bodies and fields are checked", async () => {
  const post = (body: string, type = "application/json") => new Request("https://x/", { method: "POST", body, headers: { "content-type": type } });
  assert.deepEqual(await readJson(post('{"a":1}')), { a: 1 });
  await assert.rejects(readJson(post("[1]")), { status: 400 });
  await assert.rejects(readJson(post("{")), { status: 400 });
  await assert.rejects(readJson(post("{}", "text/plain")), { status: 415 });
  await assert.rejects(readJson(post(JSON.stringify({ a: "x".repeat(70_000) }))), { status: 413 });
  assert.equal(requireText({ a: "  x " }, "a", "A", 5), "x");
  for (const a of [undefined, 5, "", "   ", "123456"]) assert.throws(() => requireText({ a }, "a", "A", 5), { status: 400 });
  assert.equal(requireEmail({ email: " A.B+c@Example.CO.jp " }), "a.b+c@example.co.jp");
  for (const email of ["a", "a@b", "@b.c", "a b@c.d", "a@b.c, d@e.f", "<a@b.c>"]) assert.throws(() => requireEmail({ email }), { status: 400 });
});

test("an unforeseen error tells the user nothing of the inside", async () => {
  const response = errorResponse(new Error("secret path /etc"));
  assert.equal(response.status, 500);
  assert.doesNotMatch(await response.text(), /secret/);
});

test("cookies are HttpOnly and, over HTTPS, Secure", () => {
  assert.equal(cookieHeader(new URL("https://x/"), "a", "b", 60), "a=b; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure");
  assert.doesNotMatch(cookieHeader(new URL("http://localhost/"), "a", "b", 60), /Secure/);
  const request = new Request("https://x/", { headers: { cookie: "xa=1; a=2=3; b=4" } });
  assert.equal(readCookie(request, "a"), "2=3");
  assert.equal(readCookie(request, "c"), null);
});

test("Clerk's tokens are believed only when signed, in time and for this site", async () => {
  const algorithm = { name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" };
  const pair = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const other = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const keys: PublicKey[] = [{ ...((await crypto.subtle.exportKey("jwk", pair.publicKey)) as JsonWebKey), kid: "k1" }];
  const now = Date.parse("2024-12-15T12:00:00Z");
  const part = (value: unknown) => base64UrlEncode(new TextEncoder().encode(JSON.stringify(value)));
  const token = async (claims: object, header: object = { alg: "RS256", kid: "k1" }, key = pair.privateKey) => {
    const signed = `${part(header)}.${part({ sub: "user_1", sid: "sess_1", exp: now / 1000 + 60, azp: "https://chat.example", ...claims })}`;
    const signature = await crypto.subtle.sign("RSASSA-PKCS1-v1_5", key, new TextEncoder().encode(signed));
    return `${signed}.${base64UrlEncode(new Uint8Array(signature))}`;
  };
  const check = async (text: string) => await verifyToken(text, keys, "https://chat.example", now);

  assert.equal((await check(await token({}))).sub, "user_1");
  const refused = {
    "signed by another key": await token({}, undefined, other.privateKey),
    expired: await token({ exp: now / 1000 - 60 }),
    "not yet valid": await token({ nbf: now / 1000 + 60 }),
    "for another site": await token({ azp: "https://evil.example" }),
    "of an unknown key": await token({}, { alg: "RS256", kid: "k2" }),
    unsigned: `${part({ alg: "none", kid: "k1" })}.${part({ sub: "user_1", sid: "s", exp: now })}.`,
    "of another algorithm": await token({}, { alg: "HS256", kid: "k1" }),
    "without a session": await token({ sid: undefined }),
    "not a token": "abc",
    changed: (await token({})).replace(/\.[^.]+\./, `.${part({ sub: "admin", sid: "s", exp: now })}.`),
  };
  for (const [why, text] of Object.entries(refused)) await assert.rejects(check(text), { status: 401 }, why);
});
