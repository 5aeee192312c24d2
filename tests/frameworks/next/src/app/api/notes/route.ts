import { save } from '@/notes';

export const runtime = 'edge';

export async function POST(request: Request) {
  const { key, text } = (await request.json()) as { key: string; text: string };
  await save(key, text);
  return Response.json({ saved: key }, { status: 201, headers: { location: `/api/notes/${key}` } });
}
