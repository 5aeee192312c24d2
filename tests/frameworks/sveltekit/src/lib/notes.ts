export async function save(env: App.Platform['env'], key: string, text: string) {
  await env.DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await env.KV.put(key, text);
  await env.BUCKET.put(key, text);
}
