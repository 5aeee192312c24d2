import { data } from 'react-router';
import { env } from '../env';
import type { Route } from './+types/note';

export async function loader({ params: { key }, context }: Route.LoaderArgs) {
  const text = await env(context).DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text');
  if (text === null) throw data(null, 404);
  return `${key}: ${text}`;
}

export default function Note({ loaderData }: Route.ComponentProps) {
  return <h1>{loaderData}</h1>;
}
