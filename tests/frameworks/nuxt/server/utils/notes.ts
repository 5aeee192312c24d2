import type { H3Event } from 'h3';

type Env = { GREETING: string; DB: any; KV: any; BUCKET: any };

export const bindings = (event: H3Event): Env => event.context.cloudflare.env;

export async function saveNote({ DB, KV, BUCKET }: Env, key: string, text: string) {
  await DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await KV.put(key, text);
  await BUCKET.put(key, text);
}
