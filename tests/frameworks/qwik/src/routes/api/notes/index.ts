import type { RequestHandler } from '@builder.io/qwik-city';
import { bindings, save } from '../../../notes';

export const onPost: RequestHandler = async ({ request, platform, headers, json }) => {
  const { key, text } = await request.json();
  await save(bindings(platform), key, text);
  headers.set('location', `/api/notes/${key}`);
  json(201, { saved: key });
};
