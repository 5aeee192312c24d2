export default function About() {
  return <h1>About next</h1>;
}
