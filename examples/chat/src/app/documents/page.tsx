import type { Metadata } from "next";
import { Suspense, type ReactNode } from "react";
import { DocumentsView } from "../../components/DocumentsView";

export const metadata: Metadata = { title: "Documents · Engawa Chat" };

export default function DocumentsPage(): ReactNode {
  return (
    <Suspense>
      <DocumentsView />
    </Suspense>
  );
}
