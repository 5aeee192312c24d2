import type { APIEvent } from '@solidjs/start/server';
import { save } from '~/notes';

export const POST = async ({ request }: APIEvent) => {
  const { key, text } = await request.json();
  await save(key, text);
  return Response.json({ saved: key }, { status: 201, headers: { location: `/api/notes/${key}` } });
};
