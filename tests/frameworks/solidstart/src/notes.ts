import { action, query } from '@solidjs/router';
import { getRequestEvent } from 'solid-js/web';

type Env = { GREETING: string; DB: any; KV: any; BUCKET: any };

export const bindings = (): Env => getRequestEvent()!.nativeEvent.context.cloudflare.env;

export async function save(key: string, text: string) {
  const { DB, KV, BUCKET } = bindings();
  await DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await KV.put(key, text);
  await BUCKET.put(key, text);
}

export const list = query(async () => {
  'use server';
  const { results } = await bindings().DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return results as { key: string; text: string }[];
}, 'notes');

export const one = query(async (key: string) => {
  'use server';
  const text = await bindings().DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text');
  return text as string | null;
}, 'note');

export const add = action(async (form: FormData) => {
  'use server';
  await save(String(form.get('key')), String(form.get('text')));
}, 'add');
