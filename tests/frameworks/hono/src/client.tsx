import { render, useState } from 'hono/jsx/dom';

function Counter() {
  const [count, setCount] = useState(0);
  return <button id="count" onClick={() => setCount(count + 1)}>count {count}</button>;
}

const root = document.getElementById('counter');
if (root) render(<Counter />, root);
