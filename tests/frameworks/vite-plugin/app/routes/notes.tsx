import { Form } from 'react-router';
import { env, save } from '../env';
import type { Route } from './+types/notes';

export async function loader({ context }: Route.LoaderArgs) {
  const { results } = await env(context).DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return results as { key: string; text: string }[];
}

export async function action({ request, context }: Route.ActionArgs) {
  const form = await request.formData();
  await save(env(context), String(form.get('key')), String(form.get('text')));
  return null;
}

export default function Notes({ loaderData }: Route.ComponentProps) {
  return (
    <main>
      <h1>Notes of vite-plugin</h1>
      <ul>
        {loaderData.map(({ key, text }) => <li key={key}>{`${key}: ${text}`}</li>)}
      </ul>
      <Form method="post">
        <input name="key" />
        <input name="text" />
        <button id="save">Save</button>
      </Form>
    </main>
  );
}
