import assert from "node:assert/strict";
import { test } from "node:test";
import { KVCacheManager } from "../src/lib/cache/kv";
import { SessionManager, type SessionData } from "../src/lib/session/manager";
import { FileKeyGenerator, R2FileManager } from "../src/lib/storage/r2";
import { openNamespace } from "./parts";

test("file keys keep the extension once and only safe characters", () => {
  const keys = new FileKeyGenerator(() => 1700000000000, () => "abcd1234");
  const key = (name: string) => keys.generateKey("user-1", "document", name);
  assert.equal(key("Report 2024.PDF"), "document/user-1/1700000000000-abcd1234-Report_2024.pdf");
  assert.equal(key("../../etc/passwd"), "document/user-1/1700000000000-abcd1234-etc_passwd");
  assert.equal(key("縁側の手入れ.txt"), "document/user-1/1700000000000-abcd1234-file.txt");
  assert.equal(key("a   b___c.md"), "document/user-1/1700000000000-abcd1234-a_b_c.md");
  assert.equal(key("no-extension"), "document/user-1/1700000000000-abcd1234-no-extension");
  assert.equal(key(""), "document/user-1/1700000000000-abcd1234-file");
  assert.equal(key(`${"x".repeat(300)}.csv`), `document/user-1/1700000000000-abcd1234-${"x".repeat(100)}.csv`);
  assert.equal(keys.generateKey("../other", "temp", "a.txt"), "temp/other/1700000000000-abcd1234-a.txt");
});

test("two uploads of one name in one millisecond get different keys", () => {
  const keys = new FileKeyGenerator(() => 1);
  assert.notEqual(keys.generateKey("u", "document", "a.txt"), keys.generateKey("u", "document", "a.txt"));
});

test("a file's address is escaped by segment", () => {
  const files = new R2FileManager({} as R2Bucket);
  assert.equal(files.fileUrl("document/u/1-a b.txt"), "/api/v1/files/document/u/1-a%20b.txt");
});

test("cacheWithPattern makes a value once and then reads it", async () => {
  const { kv, values } = openNamespace();
  const cache = new KVCacheManager(kv);
  let made = 0;
  const make = async () => ({ made: (made += 1) });
  assert.deepEqual(await cache.cacheWithPattern("p:1", make, 120), { made: 1 });
  assert.deepEqual(await cache.cacheWithPattern("p:1", make, 120), { made: 1 });
  assert.deepEqual(await cache.cacheWithPattern("p:2", make), { made: 2 });
  assert.equal(values.get("p:1")?.expirationTtl, 120);
  assert.equal(values.get("p:2")?.expirationTtl, 3600);
  await cache.delete("p:1");
  assert.deepEqual(await cache.cacheWithPattern("p:1", make), { made: 3 });
});

test("a value whose generator fails is not cached", async () => {
  const { kv, values } = openNamespace();
  const cache = new KVCacheManager(kv);
  await assert.rejects(cache.cacheWithPattern("p", async () => Promise.reject(new Error("no"))), /no/);
  assert.equal(values.size, 0);
});

test("a cached 0, false or empty string is a value", async () => {
  const cache = new KVCacheManager(openNamespace().kv);
  await cache.set("zero", 0);
  assert.equal(await cache.cacheWithPattern("zero", async () => 1), 0);
});

test("KV is never asked for less than a minute", async () => {
  const { kv, values } = openNamespace();
  await new KVCacheManager(kv).set("k", 1, { ttl: 5 });
  assert.equal(values.get("k")?.expirationTtl, 60);
});

const session = (lastActivityAt: string): SessionData => ({
  userId: "u",
  clerkSessionId: "local",
  deviceInfo: { userAgent: "test", country: null },
  lastActivityAt,
  preferences: { theme: "dark" },
});

test("sessions last 24 hours and a refresh begins them anew", async () => {
  const { kv, values } = openNamespace();
  let now = Date.parse("2024-12-15T00:00:00Z");
  const sessions = new SessionManager(kv, undefined, () => now);
  await sessions.storeSession("s", session(new Date(now).toISOString()));
  assert.equal(values.get("session:s")?.expirationTtl, 86400);

  const stored = await sessions.getSession("s");
  assert.ok(stored);
  assert.equal(sessions.needsRefresh(stored), false);
  now += 20 * 60 * 1000;
  assert.ok(sessions.needsRefresh(stored));
  values.set("session:s", { ...values.get("session:s")!, expirationTtl: 1 });
  await sessions.refreshSession("s");
  const refreshed = await sessions.getSession("s");
  assert.equal(refreshed?.lastActivityAt, "2024-12-15T00:20:00.000Z");
  assert.equal(refreshed?.preferences.theme, "dark");
  assert.equal(values.get("session:s")?.expirationTtl, 86400);

  await sessions.invalidateSession("s");
  assert.equal(await sessions.getSession("s"), null);
  await sessions.refreshSession("s");
  assert.equal(values.size, 0, "a refresh does not bring a session back");
});
