import { notFound } from 'next/navigation';
import { read } from '@/notes';

export const runtime = 'edge';

export default async function Note({ params }: { params: Promise<{ key: string }> }) {
  const { key } = await params;
  const { d1 } = await read(key);
  if (d1 === null) notFound();
  return <h1>{`${key}: ${d1}`}</h1>;
}
