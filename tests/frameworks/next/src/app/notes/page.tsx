import { revalidatePath } from 'next/cache';
import { list, save } from '@/notes';

export const runtime = 'edge';

async function add(form: FormData) {
  'use server';
  await save(String(form.get('key')), String(form.get('text')));
  // Not redirect(): outside Vercel it asks this very host for the page over https, which only
  // a server with TLS answers.
  revalidatePath('/notes');
}

export default async function Notes() {
  return (
    <main>
      <h1>Notes of next</h1>
      <ul>
        {(await list()).map(({ key, text }) => <li key={key}>{`${key}: ${text}`}</li>)}
      </ul>
      <form action={add}>
        <input name="key" />
        <input name="text" />
        <button id="save">Save</button>
      </form>
    </main>
  );
}
