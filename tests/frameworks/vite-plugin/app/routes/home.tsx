import { useState } from 'react';

export default function Home() {
  const [count, setCount] = useState(0);
  return (
    <main>
      <h1>Home of vite-plugin</h1>
      <button id="count" onClick={() => setCount(count + 1)}>{`count ${count}`}</button>
    </main>
  );
}
