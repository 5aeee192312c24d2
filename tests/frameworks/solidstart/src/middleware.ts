import { createMiddleware } from '@solidjs/start/middleware';

export default createMiddleware({
  onRequest: ({ response }) => {
    response.headers.set('x-hook', 'solidstart');
  },
});
