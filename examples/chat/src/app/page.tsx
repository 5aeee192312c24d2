import { Suspense, type ReactNode } from "react";
import { ChatView } from "../components/ChatView";

export default function ChatPage(): ReactNode {
  return (
    <Suspense>
      <ChatView />
    </Suspense>
  );
}
