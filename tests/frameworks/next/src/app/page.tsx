import { Counter } from './counter';

export default function Home() {
  return (
    <main>
      <h1>Home of next</h1>
      <Counter />
    </main>
  );
}
