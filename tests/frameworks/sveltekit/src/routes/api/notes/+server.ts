import { json } from '@sveltejs/kit';
import { save } from '$lib/notes';
import type { RequestHandler } from './$types';

export const POST: RequestHandler = async ({ request, platform }) => {
  const { key, text } = await request.json();
  await save(platform!.env, key, text);
  return json({ saved: key }, { status: 201, headers: { location: `/api/notes/${key}` } });
};
