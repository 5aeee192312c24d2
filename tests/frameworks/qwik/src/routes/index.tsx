import { component$, useSignal } from '@builder.io/qwik';

export default component$(() => {
  const count = useSignal(0);
  return (
    <main>
      <h1>Home of qwik</h1>
      <button id="count" onClick$={() => count.value++}>{`count ${count.value}`}</button>
    </main>
  );
});
