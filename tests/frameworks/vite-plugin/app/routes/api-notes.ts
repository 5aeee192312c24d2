import { env, save } from '../env';
import type { Route } from './+types/api-notes';

export async function action({ request, context }: Route.ActionArgs) {
  const { key, text } = (await request.json()) as { key: string; text: string };
  await save(env(context), key, text);
  return Response.json({ saved: key }, { status: 201, headers: { location: `/api/notes/${key}` } });
}
