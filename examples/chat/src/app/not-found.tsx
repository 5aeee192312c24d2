import Link from "next/link";
import type { ReactNode } from "react";

export default function NotFound(): ReactNode {
  return (
    <main className="not-found">
      <h1>There is no page here</h1>
      <p>The address may be old or mistyped.</p>
      <Link className="button" href="/">
        Back to your conversations
      </Link>
    </main>
  );
}
