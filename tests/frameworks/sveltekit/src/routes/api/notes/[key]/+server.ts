import { json } from '@sveltejs/kit';
import type { RequestHandler } from './$types';

export const GET: RequestHandler = async ({ params: { key }, platform }) => {
  const { env } = platform!;
  const object = await env.BUCKET.get(key);
  return json(
    {
      d1: await env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
      kv: await env.KV.get(key),
      r2: object ? await object.text() : null,
      greeting: env.GREETING,
    },
    { headers: { 'cache-control': 'no-store' } },
  );
};
