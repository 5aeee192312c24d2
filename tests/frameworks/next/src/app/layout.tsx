import Link from 'next/link';
import type { ReactNode } from 'react';

export const metadata = { title: 'Next' };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <nav>
          <Link href="/">Home</Link> <Link href="/about">About</Link> <Link href="/notes">Notes</Link>
        </nav>
        {children}
      </body>
    </html>
  );
}
