import { env } from '../env';
import type { Route } from './+types/api-stream';

// Sends a first line, and the second once the note `go` is there.
export function loader({ context }: Route.LoaderArgs) {
  const encoder = new TextEncoder();
  return new Response(
    new ReadableStream({
      async start(controller) {
        controller.enqueue(encoder.encode('first\n'));
        while ((await env(context).KV.get('go')) === null) await new Promise((resolve) => setTimeout(resolve, 20));
        controller.enqueue(encoder.encode('second\n'));
        controller.close();
      },
    }),
    { headers: { 'content-type': 'text/plain' } },
  );
}
