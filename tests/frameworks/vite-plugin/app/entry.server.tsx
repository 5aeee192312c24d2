import { isbot } from 'isbot';
import { renderToReadableStream } from 'react-dom/server';
import { isRouteErrorResponse, ServerRouter, type EntryContext } from 'react-router';

export default async function handleRequest(request: Request, status: number, headers: Headers, context: EntryContext) {
  const body = await renderToReadableStream(<ServerRouter context={context} url={request.url} />, { signal: request.signal });
  if (isbot(request.headers.get('user-agent') ?? '')) await body.allReady;
  headers.set('content-type', 'text/html');
  return new Response(body, { headers, status });
}

// Without it every page that is not there is logged as an error.
export function handleError(error: unknown) {
  if (!isRouteErrorResponse(error)) console.error(error);
}
