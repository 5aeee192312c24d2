import { useState } from 'react';

export default function Home() {
  const [count, setCount] = useState(0);
  return (
    <main>
      <h1>Home of react-router</h1>
      <button id="count" onClick={() => setCount(count + 1)}>{`count ${count}`}</button>
    </main>
  );
}
