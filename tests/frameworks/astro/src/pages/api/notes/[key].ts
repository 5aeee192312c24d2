import type { APIRoute } from 'astro';

export const GET: APIRoute = async ({ params: { key }, locals }) => {
  const { env } = locals.runtime;
  const object = await env.BUCKET.get(key);
  return Response.json(
    {
      d1: await env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
      kv: await env.KV.get(key),
      r2: object ? await object.text() : null,
      greeting: env.GREETING,
    },
    { headers: { 'cache-control': 'no-store' } },
  );
};
