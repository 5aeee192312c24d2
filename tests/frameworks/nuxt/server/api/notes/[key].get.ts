export default defineEventHandler(async (event) => {
  const key = getRouterParam(event, 'key');
  const { DB, KV, BUCKET, GREETING } = bindings(event);
  const object = await BUCKET.get(key);
  setResponseHeader(event, 'cache-control', 'no-store');
  return {
    d1: await DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
    kv: await KV.get(key),
    r2: object ? await object.text() : null,
    greeting: GREETING,
  };
});
