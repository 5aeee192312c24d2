export default function About() {
  return <h1>About react-router</h1>;
}
