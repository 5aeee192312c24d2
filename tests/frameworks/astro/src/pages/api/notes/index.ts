import type { APIRoute } from 'astro';
import { save } from '../../../notes';

export const POST: APIRoute = async ({ request, locals }) => {
  const { key, text } = await request.json();
  await save(locals.runtime.env, key, text);
  return Response.json({ saved: key }, { status: 201, headers: { location: `/api/notes/${key}` } });
};
