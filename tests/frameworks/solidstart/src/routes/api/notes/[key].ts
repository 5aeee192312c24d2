import type { APIEvent } from '@solidjs/start/server';
import { bindings } from '~/notes';

export const GET = async ({ params: { key } }: APIEvent) => {
  const { DB, KV, BUCKET, GREETING } = bindings();
  const object = await BUCKET.get(key);
  return Response.json(
    {
      d1: await DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
      kv: await KV.get(key),
      r2: object ? await object.text() : null,
      greeting: GREETING,
    },
    { headers: { 'cache-control': 'no-store' } },
  );
};
