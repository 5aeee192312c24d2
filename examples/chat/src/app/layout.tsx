import type { Metadata, Viewport } from "next";
import type { ReactNode } from "react";
import { App } from "../components/App";
import "./globals.css";

export const metadata: Metadata = {
  title: "Engawa Chat",
  description: "Ask your own documents. A quiet place to read and think.",
};

export const viewport: Viewport = {
  width: "device-width",
  initialScale: 1,
  viewportFit: "cover",
  interactiveWidget: "resizes-content",
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f6f2ea" },
    { media: "(prefers-color-scheme: dark)", color: "#1b1a17" },
  ],
};

export default function RootLayout({ children }: { children: ReactNode }): ReactNode {
  return (
    <html lang="en">
      <body>
        <App>{children}</App>
      </body>
    </html>
  );
}
