import { createSignal } from 'solid-js';

export default function Home() {
  const [count, setCount] = createSignal(0);
  return (
    <main>
      <h1>Home of solidstart</h1>
      <button id="count" onClick={() => setCount(count() + 1)}>count {count()}</button>
    </main>
  );
}
