import { env } from '../env';
import type { Route } from './+types/api-note';

export async function loader({ params: { key }, context }: Route.LoaderArgs) {
  const { DB, KV, BUCKET, GREETING } = env(context);
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
}
