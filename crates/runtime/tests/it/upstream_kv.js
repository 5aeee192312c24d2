// The cases of packages/miniflare/test/plugins/kv/index.spec.ts, by their names there. Each
// answers what it saw; upstream_kv.rs says what that must be. The namespace is empty before
// each but those that go on with another ("… / later"). The time is 1000 s after 1970.
const NOW = 1000;
const FUTURE = 1500;

const fails = async (promise) => {
  try {
    await promise;
    return "no error";
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};
const text = (stream) => new Response(stream).text();
const bytes = async (value) => [...new Uint8Array(await new Response(value).arrayBuffer())];
const junk = (length) => {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  (async () => {
    const chunk = new Uint8Array(1024 * 1024);
    for (let left = length; left > 0; left -= chunk.length) await writer.write(chunk.subarray(0, Math.min(left, chunk.length)));
    await writer.close();
  })().catch(() => {});
  return readable;
};
const map = (result) => (result instanceof Map ? Object.fromEntries(result) : result);
const putAll = async (KV, entries) => { for (const [key, value, options] of entries) await KV.put(key, value, options); };
const plain = (...keys) => keys.map((key) => [key, `value of ${key}`]);
// The pages of a list, as upstream's testList walks them.
const pages = async (KV, options = {}) => {
  const seen = [];
  let cursor = "";
  do {
    const page = await KV.list({ ...options, cursor });
    seen.push(page.keys);
    if (page.list_complete === ("cursor" in page)) return "the cursor and list_complete disagree";
    cursor = page.cursor;
  } while (cursor !== undefined);
  return seen;
};
const invalidKeys = async (call) => Promise.all(["", ".", "..", "x".repeat(513)].map((key) => fails(call(key))));

const cases = {
  "get: validates key": ({ KV }) => invalidKeys((key) => KV.get(key)),
  "get: returns value": async ({ KV }) => { await KV.put("key", "value"); return KV.get("key"); },
  "get: returns ArrayBuffer values": async ({ KV }) => {
    await KV.put("key", Uint8Array.from([0, 1, 2, 127, 128, 254, 255]).buffer);
    return bytes(await KV.get("key", "arrayBuffer"));
  },
  "get: returns stream values": async ({ KV }) => {
    await KV.put("key", new Blob([Uint8Array.from([255, 0, 10, 20, 30, 200])]).stream());
    return bytes(await KV.get("key", "stream"));
  },
  "bulk get: returns value": async ({ KV }) => { await KV.put("key1", "value1"); return map(await KV.get(["key1", "key2"])); },
  "bulk get: check max keys": ({ KV }) => fails(KV.get(Array.from({ length: 101 }, (_, n) => `key${n}`))),
  "bulk get: check minimum keys": ({ KV }) => fails(KV.get([])),
  "bulk get: invalid type": ({ KV }) => fails(KV.get(["key"], { type: "invalid" })),
  "bulk get: request json type": async ({ KV }) => {
    await putAll(KV, [["key1", '{"example": "ex"}'], ["key2", "example"]]);
    return [map(await KV.get(["key1"])), map(await KV.get(["key1"], "json")), await fails(KV.get(["key1", "key2"], "json"))];
  },
  "bulk get: check metadata": async ({ KV }) => {
    await putAll(KV, [["key1", "value1", { expiration: FUTURE, metadata: { testing: true } }], ["key2", "value2"]]);
    return map(await KV.getWithMetadata(["key1", "key2"]));
  },
  "bulk get: check metadata with int": async ({ KV }) => {
    await KV.put("key1", "value1", { expiration: FUTURE, metadata: 123 });
    return map(await KV.getWithMetadata(["key1"]));
  },
  "bulk get: check metadata as string": async ({ KV }) => {
    await KV.put("key1", "value1", { expiration: FUTURE, metadata: "example" });
    return map(await KV.getWithMetadata(["key1"]));
  },
  "bulk get: get with metadata for 404": async ({ KV }) => map(await KV.getWithMetadata(["key1"])),
  "bulk get: get over size limit": async ({ KV }) => {
    const half = new Uint8Array(13 * 1024 * 1024).fill(120);
    await putAll(KV, [["key1", half], ["key2", half]]);
    return [await fails(KV.getWithMetadata(["key1", "key2"])), (await KV.get(["key1"])).get("key1").length];
  },
  "get: returns null for non-existent keys": ({ KV }) => KV.get("key"),
  "get: returns null for expired keys": async ({ KV }) => { await KV.put("key", "value", { expirationTtl: 60 }); return KV.get("key"); },
  "get: returns null for expired keys / later": ({ KV }) => KV.get("key"),
  "get: validates but ignores cache ttl": async ({ KV }) => {
    await KV.put("key", "value");
    return [
      await fails(KV.get("key", { cacheTtl: "not a number" })),
      await fails(KV.get("key", { cacheTtl: 10 })),
      await KV.get("key", { cacheTtl: 30 }),
      await KV.get("key", { cacheTtl: 60 }),
    ];
  },
  "put: validates key": ({ KV }) => invalidKeys((key) => KV.put(key, "value")),
  "put: puts value": async ({ KV }) => {
    await KV.put("key", "value", { expiration: FUTURE, metadata: { testing: true } });
    return [await KV.getWithMetadata("key"), (await KV.list()).keys];
  },
  "put: puts empty value": async ({ KV }) => { await KV.put("key", ""); return KV.get("key"); },
  "bulk get: check metadata for falsy values": async ({ KV }) => {
    await KV.put("key1", "", { metadata: { testing: true } });
    return map(await KV.getWithMetadata(["key1"]));
  },
  "bulk get: check metadata for falsy json values": async ({ KV }) => {
    await putAll(KV, [["key1", "0", { metadata: { testing: "zero" } }], ["key2", "false", { metadata: { testing: "false" } }]]);
    return map(await KV.getWithMetadata(["key1", "key2"], "json"));
  },
  "put: overrides existing keys": async ({ KV }) => { await KV.put("key", "1".repeat(100_000)); },
  "put: overrides existing keys / later": async ({ KV }) => {
    await KV.put("key", "2".repeat(100_000), { expiration: FUTURE, metadata: { testing: true } });
    const { value, metadata } = await KV.getWithMetadata("key");
    return [value === "2".repeat(100_000), metadata];
  },
  "put: keys are case-sensitive": async ({ KV }) => {
    await putAll(KV, [["key", "lower"], ["KEY", "upper"]]);
    return [await KV.get("key"), await KV.get("KEY")];
  },
  "put: validates expiration ttl": async ({ KV }) => Promise.all(["nan", 0, 30].map((expirationTtl) => fails(KV.put("key", "value", { expirationTtl })))),
  "put: validates expiration": async ({ KV }) => Promise.all(["nan", NOW, NOW + 30].map((expiration) => fails(KV.put("key", "value", { expiration })))),
  "put: validates value size": async ({ KV }) => [
    await fails(KV.put("key", junk(25 * 1024 * 1024 + 1))),
    await KV.get("key"),
    await fails(KV.put("key", junk(25 * 1024 * 1024))),
  ],
  "put: validates metadata size": ({ KV }) => fails(KV.put("key", new Blob(["value"]).stream(), { metadata: { key: "x".repeat(1024 - '{"key":""}'.length + 1) } })),
  "delete: validates key": ({ KV }) => invalidKeys((key) => KV.delete(key)),
  "delete: deletes existing keys": async ({ KV }) => {
    await KV.put("key", "value");
    const before = await KV.get("key");
    await KV.delete("key");
    return [before, await KV.get("key")];
  },
  "delete: does nothing for non-existent keys": ({ KV }) => fails(KV.delete("key")),
  "list: lists keys in sorted order": async ({ KV }) => { await putAll(KV, plain("key3", "key1", "key2")); return pages(KV); },
  "list: lists keys matching prefix": async ({ KV }) => { await putAll(KV, plain("section1key1", "section1key2", "section2key1")); return pages(KV, { prefix: "section1" }); },
  "list: prefix is case-sensitive": async ({ KV }) => { await putAll(KV, plain("key1", "key2", "KEY1", "KEY2")); return pages(KV, { prefix: "KEY" }); },
  "list: prefix permits special characters": async ({ KV }) => { await putAll(KV, plain("key\\_%1", "key\\a", "key\\_%2", "key\\bbb", "key\\_%3")); return pages(KV, { prefix: "key\\_%" }); },
  "list: lists keys with expiration": async ({ KV }) => {
    await putAll(KV, [1, 2, 3].map((n) => [`key${n}`, "value", { expiration: FUTURE + n * 100 }]));
    return pages(KV);
  },
  "list: lists keys with metadata": async ({ KV }) => {
    await putAll(KV, [1, 2, 3].map((n) => [`key${n}`, "value", { metadata: { testing: n } }]));
    return pages(KV);
  },
  "list: lists keys with expiration and metadata": async ({ KV }) => {
    await putAll(KV, [1, 2, 3].map((n) => [`key${n}`, "value", { expiration: FUTURE + n * 100, metadata: { testing: n } }]));
    return pages(KV);
  },
  "list: returns an empty list with no keys": ({ KV }) => pages(KV),
  "list: returns an empty list with no matching keys": async ({ KV }) => { await putAll(KV, plain("key1", "key2", "key3")); return pages(KV, { prefix: "none" }); },
  "list: paginates keys": async ({ KV }) => { await putAll(KV, plain("key1", "key2", "key3")); return pages(KV, { limit: 2 }); },
  "list: paginates keys matching prefix": async ({ KV }) => {
    await putAll(KV, plain("section1key1", "section1key2", "section1key3", "section2key1"));
    return pages(KV, { prefix: "section1", limit: 2 });
  },
  "list: accepts long prefix": async ({ KV }) => {
    const long = "x".repeat(512);
    await KV.put(long, "value");
    return (await KV.list({ prefix: long })).keys.map(({ name }) => name === long);
  },
  "list: paginates with variable limit": async ({ KV }) => {
    await putAll(KV, plain("key1", "key2", "key3"));
    const first = await KV.list({ limit: 1 });
    const second = await KV.list({ limit: 2, cursor: first.cursor });
    return [first.keys, first.list_complete, second.keys, second.list_complete];
  },
  "list: returns keys inserted whilst paginating": async ({ KV }) => {
    await putAll(KV, plain("key1", "key3", "key5"));
    const first = await KV.list({ limit: 2 });
    await putAll(KV, plain("key2", "key4"));
    const second = await KV.list({ limit: 2, cursor: first.cursor });
    return [first.keys, first.list_complete, second.keys, second.list_complete];
  },
  "list: ignores expired keys": async ({ KV }) => putAll(KV, [1, 2, 3].map((n) => [`key${n}`, "value", { expiration: NOW + n * 60 }])),
  "list: ignores expired keys / later": ({ KV }) => KV.list(),
  "list: sorts lexicographically": async ({ KV }) => { await putAll(KV, plain(", ", "!")); return KV.list(); },
  "list: validates limit": ({ KV }) => fails(KV.list({ limit: 1001 })),
  "persists in-memory between options reloads": async ({ KV, VERSION }) => ({ version: VERSION, key: await KV.get("key") }),
  "persists on file-system": async ({ KV }) => { await KV.put("key", "value"); return KV.get("key"); },
  "persists on file-system / later": ({ KV }) => KV.get("key"),
};

export default {
  async fetch(request, env) {
    const { name, put } = await request.json();
    if (name === "(names)") return Response.json(Object.keys(cases));
    if (put !== undefined) {
      await env.KV.put("key", put);
      return Response.json(null);
    }
    if (!name.endsWith(" / later") && !name.startsWith("persists in-memory")) {
      for (const key of (await env.KV.list()).keys) await env.KV.delete(key.name);
    }
    try {
      return Response.json((await cases[name](env)) ?? null);
    } catch (error) {
      return Response.json({ threw: `${error.name}: ${error.message}` });
    }
  },
};
