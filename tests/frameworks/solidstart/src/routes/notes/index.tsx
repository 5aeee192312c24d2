import { createAsync } from '@solidjs/router';
import { For } from 'solid-js';
import { add, list } from '~/notes';

export default function Notes() {
  const notes = createAsync(() => list());
  return (
    <main>
      <h1>Notes of solidstart</h1>
      <ul>
        <For each={notes()}>{({ key, text }) => <li>{`${key}: ${text}`}</li>}</For>
      </ul>
      <form action={add} method="post">
        <input name="key" />
        <input name="text" />
        <button id="save">Save</button>
      </form>
    </main>
  );
}
