import { save } from '$lib/notes';
import type { Actions, PageServerLoad } from './$types';

export const load: PageServerLoad = async ({ platform }) => {
  const { results } = await platform!.env.DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return { notes: results as { key: string; text: string }[] };
};

export const actions: Actions = {
  default: async ({ request, platform }) => {
    const form = await request.formData();
    await save(platform!.env, String(form.get('key')), String(form.get('text')));
  },
};
