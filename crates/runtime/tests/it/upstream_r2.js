// The cases of packages/miniflare/test/plugins/r2/index.spec.ts, by their names there. Each
// answers what it saw; upstream_r2.rs says what that must be. The bucket is empty before
// each but those that go on with another ("… / later").
const PART = 5 * 1024 * 1024;

const fails = async (promise) => {
  try {
    await promise;
    return "no error";
  } catch (error) {
    return error.message;
  }
};
const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const hash = async (value, name) => hex(await crypto.subtle.digest(name, new TextEncoder().encode(value)));
// A part of one letter, as it is uploaded and as it is expected back.
const part = (letter, length = PART) => new Uint8Array(length).fill(letter.charCodeAt(0));
// What a value of runs of letters is made of: "a 5242880, b 12".
const runs = (buffer) => {
  const bytes = new Uint8Array(buffer);
  const seen = [];
  for (let from = 0; from < bytes.length; ) {
    let to = from;
    while (bytes[to] === bytes[from]) to += 1;
    seen.push(`${String.fromCharCode(bytes[from])} ${to - from}`);
    from = to;
  }
  return seen.join(", ");
};
const multipartEtag = async (...values) => {
  const sums = await Promise.all(values.map((value) => crypto.subtle.digest("MD5", value)));
  return `${hex(await crypto.subtle.digest("MD5", await new Blob(sums).arrayBuffer()))}-${values.length}`;
};
const object = (o) => o && {
  key: o.key,
  version: /^[0-9a-f]{32}$/.test(o.version),
  size: o.size,
  etag: o.etag,
  quoted: o.httpEtag === `"${o.etag}"`,
  checksums: o.checksums.toJSON(),
  http: o.httpMetadata,
  custom: o.customMetadata,
  range: o.range,
  uploaded: o.uploaded.getTime(),
};
const METADATA = {
  httpMetadata: {
    contentType: "text/plain",
    contentLanguage: "en-GB",
    contentDisposition: 'attachment; filename="value.txt"',
    contentEncoding: "gzip",
    cacheControl: "max-age=3600",
    cacheExpiry: new Date("Fri, 24 Feb 2023 00:00:00 GMT"),
  },
  customMetadata: { key: "value" },
};
const written = (o) => {
  const headers = new Headers({ "X-Key": "value" });
  return [o.writeHttpMetadata(headers) === undefined, headers.get("Content-Type"), headers.get("X-Key")];
};
const longKey = "x".repeat(1025);
const putAll = async (R2, ...keys) => { for (const key of keys) await R2.put(key, `value of ${key}`); };
const pages = async (R2, keys, options = {}) => {
  await putAll(R2, ...keys);
  const seen = [];
  let cursor = options.cursor;
  for (;;) {
    const page = await R2.list({ ...options, cursor });
    seen.push(page.objects.map(({ key }) => key));
    if (page.truncated !== (page.cursor !== undefined)) return "the cursor and truncated disagree";
    if (!page.truncated) return seen;
    cursor = page.cursor;
  }
};
const range = async (R2, range) => {
  const o = await R2.get("key", { range });
  return [o.range, await o.text()];
};
const minute = 60_000;
const upload = async (R2, key, values) => {
  const upload = await R2.createMultipartUpload(key, { customMetadata: { key: "value" }, httpMetadata: { contentType: "text/plain" } });
  const parts = [];
  for (const [index, value] of values.entries()) parts.push(await upload.uploadPart(index + 1, value));
  return [upload, parts];
};
const runsOf = async (R2, key, options) => runs(await (await R2.get(key, options)).arrayBuffer());

const cases = {
  "head: returns null for non-existent keys": ({ R2 }) => R2.head("key"),
  "head: returns metadata for existing keys": async ({ R2 }) => { await R2.put("key", "value", METADATA); const o = await R2.head("key"); return [object(o), written(o)]; },
  "head: validates key": ({ R2 }) => fails(R2.head(longKey)),
  "get: returns null for non-existent keys": ({ R2 }) => R2.get("key"),
  "get: returns metadata and body for existing keys": async ({ R2 }) => { await R2.put("key", "value", METADATA); const o = await R2.get("key"); return [object(o), written(o), await o.text()]; },
  "get: validates key": ({ R2 }) => fails(R2.get(longKey)),
  "get: range using object": async ({ R2 }) => {
    await R2.put("key", "value");
    const seen = [];
    for (const wanted of [{ offset: 3 }, { length: 3 }, { length: 42 }, { offset: 1, length: 3 }, { suffix: 3 }, { suffix: 42 }]) seen.push(await range(R2, wanted));
    for (const wanted of [{ offset: 42 }, { length: 0 }, { suffix: 0 }]) seen.push(await fails(R2.get("key", { range: wanted })));
    return seen;
  },
  'get: range using "Range" header': async ({ R2 }) => {
    await R2.put("key", "abcdefghijklmnopqrstuvwxyz");
    const seen = [await range(R2, new Headers())];
    for (const text of ["bytes=3-6", "bytes=10-", "bytes=-5", "bytes=5-6,10-11"]) seen.push(await range(R2, new Headers({ range: text })));
    return seen;
  },
  "get: returns body only if passes onlyIf": async ({ R2 }) => {
    const { etag, uploaded } = await R2.put("key", "value");
    const has = async (onlyIf) => { const o = await R2.get("key", { onlyIf }); return o === null ? "null" : "body" in o; };
    const [past, future] = [new Date(uploaded - minute), new Date(uploaded.getTime() + minute)];
    const seen = [];
    for (const onlyIf of [
      { etagMatches: etag }, { etagMatches: "bad" }, { etagDoesNotMatch: etag }, { etagDoesNotMatch: "bad" },
      { uploadedBefore: future }, { uploadedBefore: past }, { uploadedAfter: future }, { uploadedAfter: past },
    ]) seen.push(await has(onlyIf));
    return seen;
  },
  "put: returns metadata for created object": async ({ R2 }) => object(await R2.put("key", "value", METADATA)),
  "put: puts empty value": async ({ R2 }) => [(await R2.put("key", "")).size, await (await R2.get("key")).text()],
  "put: overrides existing keys": async ({ R2 }) => { await R2.put("key", part("1", 100_000)); },
  "put: overrides existing keys / later": async ({ R2 }) => { await R2.put("key", part("2", 100_000)); return runsOf(R2, "key"); },
  "put: validates key": ({ R2 }) => fails(R2.put(longKey, "v")),
  "put: validates checksums": async ({ R2 }) => {
    const seen = [];
    for (const [option, name] of [["md5", "MD5"], ["sha1", "SHA-1"], ["sha256", "SHA-256"], ["sha384", "SHA-384"], ["sha512", "SHA-512"]]) {
      const right = await hash("value", name);
      const wrong = right.replace("0", "1");
      await R2.put("key", "value", { [option]: option === "sha256" ? right.toUpperCase() : right });
      const text = await fails(R2.put("key", "value", { [option]: wrong }));
      seen.push([text.replace(wrong, "<given>").replace(right, "<actual>"), Object.entries(JSON.parse(JSON.stringify((await R2.head("key")).checksums))).map(([kind, sum]) => [kind, kind === option ? sum === right : sum.length])]);
    }
    return seen;
  },
  "put: stores only if passes onlyIf": async ({ R2 }) => {
    const { etag, uploaded } = await R2.put("key", "1");
    const [past, future] = [new Date(uploaded - minute), new Date(uploaded.getTime() + 5 * minute)];
    const seen = [];
    for (const onlyIf of [
      { etagMatches: etag }, { etagMatches: "bad" }, { etagDoesNotMatch: etag }, { etagDoesNotMatch: "bad" },
      { uploadedBefore: future }, { uploadedBefore: past }, { uploadedAfter: future }, { uploadedAfter: past },
    ]) {
      const put = await R2.put("key", "2", { onlyIf });
      seen.push([put !== null, await (await R2.get("key")).text()]);
      await R2.put("key", "1");
    }
    return [...seen, await R2.put("no-key", "2", { onlyIf: { etagMatches: etag } })];
  },
  "put: validates metadata size": async ({ R2 }) => {
    const of = (name, value) => fails(R2.put("key", "value", { customMetadata: { [name]: value } }));
    return [
      await of("key", "x".repeat(8189)), await of("key", "x".repeat(8190)), await of("hi", "x".repeat(8190)),
      // Two UTF-16 units each, and four bytes.
      await of("key", "🙂".repeat(2047)), await of("key1", "🙂".repeat(2047)), await of("key12", "🙂".repeat(2047)), await of("key", "🙂".repeat(2048)),
    ];
  },
  "put: can copy values": async ({ R2 }) => {
    await R2.put("key", "0123456789");
    const seen = [];
    for (const range of [undefined, { offset: 1, length: 4 }, { length: 3 }, { suffix: 5 }, new Headers({ range: "bytes=0-5" })]) {
      await R2.put("copy", (await R2.get("key", range && { range })).body);
      seen.push(await (await R2.get("copy")).text());
    }
    return seen;
  },
  "delete: deletes existing keys": async ({ R2 }) => {
    await R2.delete("key");
    await R2.put("key", part("1", 100_000));
    const before = (await R2.head("key")).size;
    await R2.delete("key");
    const after = await R2.head("key");
    await putAll(R2, "key1", "key2", "key3");
    await R2.delete(["key1", "key200", "key3"]);
    return [before, after, await R2.head("key1"), (await R2.head("key2")).key, await R2.head("key3")];
  },
  "delete: validates key": ({ R2 }) => fails(R2.delete(longKey)),
  "delete: validates keys": ({ R2 }) => fails(R2.delete(["valid key", longKey])),
  "list: lists keys in sorted order": ({ R2 }) => pages(R2, ["key3", "key1", "key2", ", ", "!"]),
  "list: lists keys matching prefix": ({ R2 }) => pages(R2, ["section1key1", "section1key2", "section2key1"], { prefix: "section1" }),
  "list: returns an empty list with no keys": ({ R2 }) => pages(R2, []),
  "list: returns an empty list with no matching keys": ({ R2 }) => pages(R2, ["key1", "key2", "key3"], { prefix: "none" }),
  "list: returns an empty list with an invalid cursor": ({ R2 }) => fails(pages(R2, ["key1", "key2", "key3"], { cursor: "bad" })),
  "list: paginates keys": ({ R2 }) => pages(R2, ["key1", "key2", "key3"], { limit: 2 }),
  "list: paginates keys matching prefix": ({ R2 }) => pages(R2, ["section1key1", "section1key2", "section1key3", "section2key1"], { prefix: "section1", limit: 2 }),
  "list: lists keys starting from startAfter exclusive": ({ R2 }) => pages(R2, ["key1", "key2", "key3", "key4"], { startAfter: "key2" }),
  "list: lists keys with startAfter and limit (where startAfter matches key)": ({ R2 }) => pages(R2, ["key1", "key2", "key3", "key4"], { startAfter: "key1", limit: 2 }),
  "list: lists keys with startAfter and limit (where startAfter doesn't match key)": ({ R2 }) => pages(R2, ["key1", "key2", "key3", "key4"], { startAfter: "key", limit: 2 }),
  "list: accepts long prefix": async ({ R2 }) => { const long = "x".repeat(1024); await R2.put(long, "value"); return (await R2.list({ prefix: long })).objects.map(({ key }) => key === long); },
  "list: returns metadata with objects": async ({ R2 }) => { await R2.put("key", "value"); return (await R2.list()).objects.map(object); },
  "list: paginates with variable limit": async ({ R2 }) => {
    await putAll(R2, "key1", "key2", "key3");
    const first = await R2.list({ limit: 1 });
    const second = await R2.list({ limit: 2, cursor: first.cursor });
    return [first, second].map(({ objects, truncated, cursor }) => [objects.map(({ key }) => key), truncated, typeof cursor]);
  },
  "list: returns keys inserted whilst paginating": async ({ R2 }) => {
    await putAll(R2, "key1", "key3", "key5");
    const first = await R2.list({ limit: 2 });
    await putAll(R2, "key2", "key4");
    const second = await R2.list({ limit: 2, cursor: first.cursor });
    return [first, second].map(({ objects, truncated, cursor }) => [objects.map(({ key }) => key), truncated, typeof cursor]);
  },
  "list: validates limit": async ({ R2 }) => [await fails(R2.list({ limit: 0 })), await fails(R2.list({ limit: 1001 }))],
  "list: includes httpMetadata and customMetadata if specified": async ({ R2 }) => {
    await R2.put("key1", "value1", { httpMetadata: { contentEncoding: "gzip" }, customMetadata: { foo: "bar" } });
    await R2.put("key2", "value2", { httpMetadata: { contentType: "dinosaur" }, customMetadata: { bar: "fiz" } });
    await R2.put("key3", "value3", { httpMetadata: { contentLanguage: "en" }, customMetadata: { fiz: "bang" } });
    const seen = [];
    for (const include of [undefined, ["httpMetadata"], ["customMetadata"], ["httpMetadata", "customMetadata"]]) {
      seen.push((await R2.list({ include })).objects.map(({ httpMetadata = "none", customMetadata = "none" }) => [httpMetadata, customMetadata]));
    }
    return seen;
  },
  "list: returns correct delimitedPrefixes for delimiter and prefix": async ({ R2 }) => {
    await putAll(R2, "dir0/file0", "dir0/file1", "dir0/sub0/file2", "dir0/sub0/file3", "dir0/sub1/file4", "dir0/sub1/file5", "dir1/file6", "dir1/file7", "file8", "file9");
    const seen = [];
    const list = async (options) => { const page = await R2.list(options); seen.push([page.objects.map(({ key }) => key), page.delimitedPrefixes, page.truncated]); return page.cursor; };
    for (const options of [{}, { delimiter: "" }, { delimiter: "file8" }, { prefix: "dir1/", delimiter: "file6" }, { delimiter: "/" }, { prefix: "dir0/", delimiter: "/" }, { prefix: "dir0", delimiter: "/" }]) await list(options);
    const cursor = await list({ prefix: "dir0/", delimiter: "/", limit: 2 });
    await list({ prefix: "dir0/", delimiter: "/", limit: 2, cursor });
    return seen;
  },
  "operations permit empty key": async ({ R2 }) => {
    await R2.put("", "empty");
    const seen = [(await R2.head("")).key, await (await R2.get("")).text(), (await R2.list()).objects.map(({ key }) => key)];
    await R2.delete("");
    return [...seen, await R2.head("")];
  },
  "operations persist stored data": async ({ R2 }) => { await R2.put("key", "value"); return (await R2.head("key")).size; },
  "operations persist stored data / later": async ({ R2 }) => {
    const seen = [await (await R2.get("key")).text(), (await R2.list()).objects.map(({ size }) => size)];
    await R2.delete("key");
    const gone = await R2.head("key");
    const upload = await R2.createMultipartUpload("multipart");
    const done = await upload.complete([await upload.uploadPart(1, "multipart")]);
    return [...seen, gone, done.size, (await R2.head("multipart")).size];
  },
  "operations permit strange bucket names": async ({ STRANGE }) => { await STRANGE.put("key", "value"); return (await STRANGE.get("key")).text(); },
  createMultipartUpload: async ({ R2 }) => {
    const one = await R2.createMultipartUpload("key", METADATA);
    const other = await R2.createMultipartUpload("key");
    return [one.key, one.uploadId !== "", other.key, other.uploadId !== one.uploadId, await fails(R2.createMultipartUpload(longKey))];
  },
  uploadPart: async ({ R2 }) => {
    const upload = await R2.createMultipartUpload("key");
    const one = await upload.uploadPart(1, "value1");
    const two = await upload.uploadPart(2, "value two");
    const again = await upload.uploadPart(1, "value1");
    const far = await upload.uploadPart(100, "value1");
    return [
      one.partNumber, one.etag === await hash("value1", "MD5"), two.partNumber, two.etag === await hash("value two", "MD5"),
      again.partNumber, again.etag === one.etag, far.partNumber, far.etag === one.etag,
      await fails(R2.resumeMultipartUpload("key", "bad").uploadPart(1, "value")),
      await fails(R2.resumeMultipartUpload("badkey", upload.uploadId).uploadPart(1, "value")),
      await fails(R2.resumeMultipartUpload(longKey, "bad").uploadPart(1, "value")),
    ];
  },
  abortMultipartUpload: async ({ R2 }) => {
    const [one] = await upload(R2, "key", ["value1", "value2", "value3"]);
    const two = await R2.createMultipartUpload("key");
    await one.abort();
    const seen = [await fails(one.uploadPart(4, "value4")), await fails(one.abort())];
    await two.complete([await two.uploadPart(1, "value1")]);
    seen.push(await fails(two.abort()), await (await R2.get("key")).text());
    const three = await R2.createMultipartUpload("key");
    for (const [key, id] of [["key", "bad"], ["bad", three.uploadId], [longKey, "bad"]]) seen.push(await fails(R2.resumeMultipartUpload(key, id).abort()));
    await R2.delete("key");
    return seen;
  },
  completeMultipartUpload: async ({ R2 }) => {
    const seen = {};
    const [one, parts] = await upload(R2, "key", [part("1"), part("2"), "3"]);
    const done = await one.complete(parts);
    seen.created = [object(done), done.etag === await multipartEtag(part("1"), part("2"), new TextEncoder().encode("3")), await runsOf(R2, "key")];
    const [two, small] = await upload(R2, "key", ["1", "2", "3"]);
    seen.small = [await fails(two.complete(small)), await fails(two.complete(small.slice(0, 2)))];
    const single = await two.complete([small[0]]);
    seen.single = [single.size, single.etag, await (await R2.get("key")).text()];
    const overridden = await R2.createMultipartUpload("key");
    const old = await overridden.uploadPart(1, "value");
    const fresh = await overridden.uploadPart(1, "other");
    seen.overridden = [await fails(overridden.complete([old])), (await overridden.complete([fresh])).size];
    const [four, [first]] = await upload(R2, "key", [part("1")]);
    const doubled = await four.uploadPart(1, part("2"));
    seen.doubled = await fails(four.complete([first, doubled, doubled]));
    const [five, [a, b, c]] = await upload(R2, "key", [part("1"), part("2"), part("3")]);
    const ordered = await five.complete([b, c, a]);
    seen.ordered = [ordered.size, ordered.etag === await multipartEtag(part("1"), part("2"), part("3")), await runsOf(R2, "key")];
    const [fiveB, [b1, b2, b3]] = await upload(R2, "key", ["1", part("2"), part("3")]);
    seen.smallNamedLast = await fails(fiveB.complete([b2, b3, b1]));
    const [fiveC, [c1, c2, c3]] = await upload(R2, "key", [part("1"), part("2"), "3"]);
    seen.smallNamedInside = await fails(fiveC.complete([c2, c3, c1]));
    const gaps = await R2.createMultipartUpload("key");
    const kept = [];
    for (const number of [2, 5, 9]) kept.push(await gaps.uploadPart(number, part(String(number))));
    seen.gaps = [(await gaps.complete(kept)).etag === await multipartEtag(part("2"), part("5"), part("9")), await runsOf(R2, "key")];
    const none = await R2.createMultipartUpload("key");
    const empty = await none.complete([]);
    seen.none = [empty.size, empty.etag, await (await R2.get("key")).text()];
    const [eightA] = await upload(R2, "key", []);
    const [, [foreign]] = await upload(R2, "key", ["value"]);
    seen.foreign = await fails(eightA.complete([foreign]));
    const [nine, ninth] = await upload(R2, "key", ["value"]);
    await nine.complete(ninth);
    seen.twice = await fails(nine.complete(ninth));
    const [ten, tenth] = await upload(R2, "key", ["value"]);
    await ten.abort();
    seen.aborted = await fails(ten.complete(tenth));
    seen.unknown = [];
    for (const [key, id] of [["key", "bad"], ["badkey", eightA.uploadId], [longKey, "bad"]]) seen.unknown.push(await fails(R2.resumeMultipartUpload(key, id).complete([])));
    const thirteen = await R2.createMultipartUpload("key");
    const t1 = await thirteen.uploadPart(1, part("1"));
    let t2 = await thirteen.uploadPart(2, part("2", PART + 1));
    let t3 = await thirteen.uploadPart(3, part("3"));
    seen.uneven = [await fails(thirteen.complete([t1, t2, t3]))];
    t2 = await thirteen.uploadPart(2, part("2"));
    t3 = await thirteen.uploadPart(3, part("3", PART + 1));
    seen.uneven.push(await fails(thirteen.complete([t1, t2, t3])));
    t3 = await thirteen.uploadPart(3, part("3", PART - 1));
    seen.uneven.push((await thirteen.complete([t1, t2, t3])).size);
    const [fourteen, [f1, f2]] = await upload(R2, "key", [part("1"), "2"]);
    seen.missing = [];
    for (const other of [{ partNumber: 3, etag: f2.etag }, { partNumber: 2, etag: "bad" }, { partNumber: 4, etag: "very bad" }]) seen.missing.push(await fails(fourteen.complete([f1, other])));
    return seen;
  },
  "head: is multipart aware": async ({ R2 }) => {
    const [one, parts] = await upload(R2, "key", [part("1"), part("2"), part("3")]);
    const before = await R2.head("key");
    const { version } = await one.complete(parts);
    const o = await R2.head("key");
    return [before, object(o), o.version === version, o.etag === await multipartEtag(part("1"), part("2"), part("3"))];
  },
  "get: is multipart aware": async ({ R2 }) => {
    const [one, parts] = await upload(R2, "key", [part("a"), part("b"), part("c")]);
    const before = await R2.get("key");
    const { version } = await one.complete(parts);
    const o = await R2.get("key");
    const [half, quarter] = [PART / 2, PART / 4];
    return [
      before, object(o), o.version === version, runs(await o.arrayBuffer()),
      await runsOf(R2, "key", { range: { offset: half, length: quarter } }),
      await runsOf(R2, "key", { range: { offset: half, length: half + PART + quarter } }),
      await runsOf(R2, "key", { range: { suffix: quarter + PART } }),
    ];
  },
  "put: is multipart aware": async ({ R2 }) => {
    const [one, parts] = await upload(R2, "key", [part("1"), part("2"), part("3")]);
    await R2.put("key", "value");
    return (await one.complete(parts)).size;
  },
  "put: is multipart aware / later": async ({ R2 }) => { await R2.put("key", "new-value"); return (await R2.get("key")).text(); },
  "delete: is multipart aware": async ({ R2 }) => {
    const [one, parts] = await upload(R2, "key", [part("1"), part("2"), part("3")]);
    await R2.delete("key");
    return (await one.complete(parts)).size;
  },
  "delete: is multipart aware / later": async ({ R2 }) => { await R2.delete("key"); return R2.head("key"); },
  "delete: waits for in-progress multipart gets before deleting part blobs": async ({ R2 }) => {
    const [one, parts] = await upload(R2, "key", [part("1"), part("2"), part("3")]);
    await one.complete(parts);
    const whole = await R2.get("key");
    const tail = await R2.get("key", { range: { offset: PART } });
    await R2.delete("key");
    return [runs(await whole.arrayBuffer()), runs(await tail.arrayBuffer())];
  },
  "list: is multipart aware": async ({ R2 }) => {
    const include = ["httpMetadata", "customMetadata"];
    const [one, parts] = await upload(R2, "key", [part("x"), part("y"), part("z")]);
    const before = (await R2.list({ include })).objects.length;
    const { version } = await one.complete(parts);
    const { objects } = await R2.list({ include });
    return [before, objects.map(object), objects[0].version === version];
  },
};

// Whether a get and two puts, of an object and of none, happen under each condition.
async function conditions(R2, list, first) {
  await R2.put("object", "1");
  const condition = ({ headers, object }) => headers === undefined ? Object.fromEntries(Object.entries(object).map(([name, value]) => [name, name.startsWith("uploaded") ? new Date(value) : value])) : new Headers(headers);
  const seen = [];
  for (let from = 0; from < list.length; from += 50) {
    seen.push(...await Promise.all(list.slice(from, from + 50).map(async (one, index) => {
      const onlyIf = condition(one);
      const key = `put/${first + from + index}`;
      const [got] = await Promise.all([R2.get("object", { onlyIf }), R2.put(key, "1")]);
      const body = "body" in got;
      if (body) await got.body.cancel();
      return [body, (await R2.put(key, "2", { onlyIf })) !== null, (await R2.put(`new/${first + from + index}`, "2", { onlyIf })) !== null];
    })));
  }
  return seen;
}

export default {
  async fetch(request, env) {
    const { name, list, first } = await request.json();
    if (name === "(names)") return Response.json(Object.keys(cases));
    if (name === "(conditions)") return Response.json(await conditions(env.R2, list, first));
    if (!name.endsWith(" / later")) {
      for (const { key } of (await env.R2.list()).objects) await env.R2.delete(key);
    }
    try {
      return Response.json((await cases[name](env)) ?? null);
    } catch (error) {
      return Response.json({ threw: `${error.name}: ${error.message}` });
    }
  },
};
