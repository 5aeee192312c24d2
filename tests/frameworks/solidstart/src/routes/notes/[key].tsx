import { createAsync, useParams } from '@solidjs/router';
import { HttpStatusCode } from '@solidjs/start';
import { Show } from 'solid-js';
import { one } from '~/notes';

export default function Note() {
  const { key } = useParams();
  // The status is only known once the note has been looked for.
  const note = createAsync(() => one(key), { deferStream: true });
  return (
    <Show when={note()} fallback={<HttpStatusCode code={404} />}>
      <h1>{`${key}: ${note()}`}</h1>
    </Show>
  );
}
