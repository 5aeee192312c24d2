import type { AppLoadContext } from 'react-router';

type Env = { GREETING: string; DB: any; KV: any; BUCKET: any };

export const env = (context: AppLoadContext) => (context as { cloudflare: { env: Env } }).cloudflare.env;

export async function save({ DB, KV, BUCKET }: Env, key: string, text: string) {
  await DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await KV.put(key, text);
  await BUCKET.put(key, text);
}
