import { read } from '@/notes';

export const runtime = 'edge';

export async function GET(_request: Request, { params }: { params: Promise<{ key: string }> }) {
  const { key } = await params;
  return Response.json(await read(key), { headers: { 'cache-control': 'no-store' } });
}
