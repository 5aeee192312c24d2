import type { RequestHandler } from '@builder.io/qwik-city';
import { bindings } from '../../../notes';

// Sends a first line, and the second once the note `go` is there.
export const onGet: RequestHandler = async ({ platform, headers, getWritableStream }) => {
  const { KV } = bindings(platform);
  const encoder = new TextEncoder();
  headers.set('content-type', 'text/plain');
  const writer = getWritableStream().getWriter();
  await writer.write(encoder.encode('first\n'));
  while ((await KV.get('go')) === null) await new Promise((resolve) => setTimeout(resolve, 20));
  await writer.write(encoder.encode('second\n'));
  await writer.close();
};
