// The work that every server of the benchmark does. The Pages project calls it from
// `functions/`, the Worker for `workerd serve wrangler.json` from its own router.

const KEYS = 256;
const ROWS = 1000;

const VALUE = "v".repeat(1024);
const OBJECT = new Uint8Array(16 * 1024).fill(120);

/** Fills in what the reads read. Run once for a fresh server; may be repeated. */
export async function setUp(env) {
  await env.KV.put("read", VALUE);
  await env.DB.batch([
    env.DB.prepare("CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, body TEXT NOT NULL)"),
    env.DB.prepare("CREATE TABLE IF NOT EXISTS visits (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, note TEXT NOT NULL)"),
    env.DB.prepare(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) " +
        "INSERT OR IGNORE INTO items (id, name, body) SELECT i, 'item ' || i, hex(zeroblob(50)) FROM n",
    ).bind(ROWS),
  ]);
  // `workerd serve wrangler.json` has no R2.
  if (env.BUCKET) await env.BUCKET.put("read", OBJECT);
  return new Response("ready");
}

export function hello() {
  return new Response("Hello, world!");
}

export async function kvRead(env) {
  return new Response(await env.KV.get("read"));
}

export async function kvWrite(env) {
  await env.KV.put(`write-${pick(KEYS)}`, VALUE);
  return new Response("written");
}

export async function d1Read(env) {
  const row = await env.DB.prepare("SELECT id, name, body FROM items WHERE id = ?").bind(1 + pick(ROWS)).first();
  return Response.json(row);
}

export async function d1Insert(env) {
  await env.DB.prepare("INSERT INTO visits (at, note) VALUES (?, ?)").bind(Date.now(), "a visit").run();
  return new Response("inserted");
}

export async function r2Read(env) {
  const object = await env.BUCKET.get("read");
  return new Response(object.body);
}

export async function r2Write(env) {
  await env.BUCKET.put(`write-${pick(KEYS)}`, OBJECT);
  return new Response("written");
}

export function point(env) {
  env.POINTS.writeDataPoint({ indexes: ["bench"], blobs: ["a blob", "another"], doubles: [1, 2.5] });
  return hello();
}

function pick(count) {
  return Math.floor(Math.random() * count);
}
