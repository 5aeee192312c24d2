import { createRequestHandler } from 'react-router';

const handle = createRequestHandler(() => import('virtual:react-router/server-build'), import.meta.env.MODE);

export default {
  async fetch(request: Request, env: unknown, ctx: unknown) {
    const answer = await handle(request, { cloudflare: { env, ctx } });
    const response = new Response(answer.body, answer);
    response.headers.set('x-hook', 'vite-plugin');
    return response;
  },
};
