import { getRequestContext } from '@cloudflare/next-on-pages';

export async function save(key: string, text: string) {
  const { env } = getRequestContext();
  await env.DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await env.KV.put(key, text);
  await env.BUCKET.put(key, text);
}

export async function read(key: string) {
  const { env } = getRequestContext();
  const object = await env.BUCKET.get(key);
  return {
    d1: await env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first<string>('text'),
    kv: await env.KV.get(key),
    r2: object ? await object.text() : null,
    greeting: env.GREETING,
  };
}

export async function list() {
  const { env } = getRequestContext();
  const { results } = await env.DB.prepare('SELECT key, text FROM notes ORDER BY key').all<{ key: string; text: string }>();
  return results;
}
