import type { RequestHandler } from '@builder.io/qwik-city';

export const onRequest: RequestHandler = ({ headers }) => {
  headers.set('x-hook', 'qwik');
};
