import { component$ } from '@builder.io/qwik';
import { Form, routeAction$, routeLoader$ } from '@builder.io/qwik-city';
import { bindings, save } from '../../notes';

export const useNotes = routeLoader$(async ({ platform }) => {
  const { results } = await bindings(platform).DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return results as { key: string; text: string }[];
});

export const useSave = routeAction$(async ({ key, text }, { platform }) => {
  await save(bindings(platform), String(key), String(text));
});

export default component$(() => {
  const notes = useNotes();
  const action = useSave();
  return (
    <main>
      <h1>Notes of qwik</h1>
      <ul>
        {notes.value.map(({ key, text }) => <li key={key}>{`${key}: ${text}`}</li>)}
      </ul>
      <Form action={action}>
        <input name="key" />
        <input name="text" />
        <button id="save">Save</button>
      </Form>
    </main>
  );
});
