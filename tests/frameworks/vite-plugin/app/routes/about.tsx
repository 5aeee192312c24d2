export default function About() {
  return <h1>About vite-plugin</h1>;
}
