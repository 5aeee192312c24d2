import { component$ } from '@builder.io/qwik';
import { routeLoader$ } from '@builder.io/qwik-city';
import { bindings } from '../../../notes';

export const useNote = routeLoader$(async ({ params: { key }, platform, error }) => {
  const text = await bindings(platform).DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text');
  if (text === null) throw error(404, 'There is no such note');
  return `${key}: ${text}`;
});

export default component$(() => <h1>{useNote().value}</h1>);
