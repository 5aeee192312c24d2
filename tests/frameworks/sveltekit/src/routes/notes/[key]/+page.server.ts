import { error } from '@sveltejs/kit';
import type { PageServerLoad } from './$types';

export const load: PageServerLoad = async ({ params, platform }) => {
  const text = await platform!.env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(params.key).first('text');
  if (text === null) error(404);
  return { key: params.key, text: String(text) };
};
