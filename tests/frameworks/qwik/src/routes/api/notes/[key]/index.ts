import type { RequestHandler } from '@builder.io/qwik-city';
import { bindings } from '../../../../notes';

export const onGet: RequestHandler = async ({ params: { key }, platform, headers, json }) => {
  const { DB, KV, BUCKET, GREETING } = bindings(platform);
  const object = await BUCKET.get(key);
  headers.set('cache-control', 'no-store');
  json(200, {
    d1: await DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
    kv: await KV.get(key),
    r2: object ? await object.text() : null,
    greeting: GREETING,
  });
};
