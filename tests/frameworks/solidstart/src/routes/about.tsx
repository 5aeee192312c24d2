export default function About() {
  return <h1>About solidstart</h1>;
}
