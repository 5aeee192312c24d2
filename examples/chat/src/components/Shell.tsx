"use client";

import Link from "next/link";
import { usePathname, useSearchParams } from "next/navigation";
import { type ReactNode, Suspense, useEffect, useRef, useState } from "react";
import { clerkSignOut } from "../client/clerk";
import { useStore } from "../client/store";
import type { Conversation } from "../shared/types";
import { AccountDialog } from "./AccountDialog";
import { useConfirm } from "./Confirm";
import { Icon, Mark } from "./icons";

/** The frame around every view: the list of conversations at the side, on a phone behind a button. */
export function Shell({ children }: { children: ReactNode }): ReactNode {
  const [isOpen, setIsOpen] = useState(false);
  const opener = useRef<HTMLButtonElement>(null);
  const drawer = useRef<HTMLElement>(null);
  const { notice, setNotice } = useStore();
  const pathname = usePathname();

  useEffect(() => {
    if (!isOpen) return;
    drawer.current?.querySelector<HTMLElement>("a, button")?.focus();
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape") return;
      setIsOpen(false);
      // Only when it is no longer inert can the button take the focus.
      requestAnimationFrame(() => opener.current?.focus());
    };
    // On a wide screen the sidebar always stands there, and nothing must stay inert beside it.
    const wide = window.matchMedia("(min-width: 48rem)");
    const onWide = (): void => setIsOpen(false);
    document.addEventListener("keydown", onKey);
    wide.addEventListener("change", onWide);
    return () => {
      document.removeEventListener("keydown", onKey);
      wide.removeEventListener("change", onWide);
    };
  }, [isOpen]);

  return (
    <div className="shell">
      <a className="skip-link" href="#content">
        Skip to the content
      </a>
      <header className="topbar" inert={isOpen}>
        <button
          ref={opener}
          type="button"
          className="icon-button"
          aria-label="Conversations"
          aria-expanded={isOpen}
          aria-controls="sidebar"
          onClick={() => setIsOpen(true)}
          data-testid="menu-button"
        >
          <Icon name="menu" />
        </button>
        <span className="topbar-title">{pathname === "/documents" ? "Documents" : "Engawa Chat"}</span>
        <Link className="icon-button" href="/" aria-label="New conversation">
          <Icon name="plus" />
        </Link>
      </header>
      {isOpen && <div className="scrim" onClick={() => setIsOpen(false)} />}
      <aside id="sidebar" ref={drawer} className={isOpen ? "sidebar is-open" : "sidebar"} aria-label="Conversations and documents">
        <Suspense>
          <Sidebar close={() => setIsOpen(false)} />
        </Suspense>
      </aside>
      <main id="content" className="content" tabIndex={-1} inert={isOpen}>
        {children}
      </main>
      <div className="toasts" role="alert">
        {notice && (
          <div className="toast" data-testid="notice">
            <span>{notice}</span>
            <button type="button" className="icon-button" aria-label="Dismiss" onClick={() => setNotice(null)}>
              <Icon name="close" size={18} />
            </button>
          </div>
        )}
      </div>
    </div>
  );
}

function Sidebar({ close }: { close: () => void }): ReactNode {
  const { conversations, documents, user, signOut, report } = useStore();
  const pathname = usePathname();
  const current = useSearchParams().get("c");
  const [isAccountOpen, setIsAccountOpen] = useState(false);

  const leave = (): void => {
    clerkSignOut().then(signOut).catch(report);
  };

  return (
    <>
      <div className="sidebar-head">
        <Link className="brand" href="/" onClick={close}>
          <Mark size={26} />
          <span>
            Engawa Chat <span lang="ja">縁側</span>
          </span>
        </Link>
        <button type="button" className="icon-button sidebar-close" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </div>
      <nav className="sidebar-nav" aria-label="Main">
        <Link className="nav-item" href="/" onClick={close} aria-current={pathname === "/" && !current ? "page" : undefined} data-testid="new-conversation">
          <Icon name="plus" size={18} /> New conversation
        </Link>
        <Link className="nav-item" href="/documents" onClick={close} aria-current={pathname === "/documents" ? "page" : undefined} data-testid="nav-documents">
          <Icon name="document" size={18} /> Documents
          {documents.length > 0 && <span className="count">{documents.length}</span>}
        </Link>
      </nav>
      <nav className="conversations" aria-label="Conversations">
        <h2>Conversations</h2>
        {conversations.length === 0 ? (
          <p className="quiet">None yet. The first begins with your question.</p>
        ) : (
          <ul data-testid="conversation-list">
            {conversations.map((conversation) => (
              <ConversationItem key={conversation.id} conversation={conversation} isCurrent={pathname === "/" && conversation.id === current} close={close} />
            ))}
          </ul>
        )}
      </nav>
      <div className="account">
        <button type="button" className="account-button" onClick={() => setIsAccountOpen(true)} data-testid="account-button">
          <span className="avatar" aria-hidden="true">
            {Array.from(user.name)[0]?.toUpperCase()}
          </span>
          <span className="account-name">
            {user.name}
            <small>{user.email}</small>
          </span>
        </button>
      </div>
      {isAccountOpen && <AccountDialog onClose={() => setIsAccountOpen(false)} onSignOut={leave} />}
    </>
  );
}

function ConversationItem({ conversation, isCurrent, close }: { conversation: Conversation; isCurrent: boolean; close: () => void }): ReactNode {
  const { removeConversation, renameConversation, report } = useStore();
  const [isEditing, setIsEditing] = useState(false);
  const { confirm, dialog } = useConfirm();

  const rename = (title: string): void => {
    setIsEditing(false);
    if (title.trim() !== "" && title.trim() !== conversation.title) renameConversation(conversation.id, title.trim()).catch(report);
  };
  const remove = async (): Promise<void> => {
    if (!(await confirm(`Delete “${conversation.title}”?`, "Its messages are deleted for good.", "Delete"))) return;
    try {
      await removeConversation(conversation.id);
      if (isCurrent) window.history.replaceState(null, "", "/");
    } catch (error) {
      report(error);
    }
  };

  if (isEditing) {
    return (
      <li>
        <input
          className="rename"
          aria-label="Title of the conversation"
          defaultValue={conversation.title}
          maxLength={120}
          autoFocus
          onFocus={(event) => event.currentTarget.select()}
          onBlur={(event) => rename(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.nativeEvent.isComposing) return;
            if (event.key === "Enter") rename(event.currentTarget.value);
            if (event.key === "Escape") setIsEditing(false);
          }}
        />
      </li>
    );
  }
  return (
    <li className={isCurrent ? "conversation is-current" : "conversation"}>
      <Link href={`/?c=${conversation.id}`} onClick={close} aria-current={isCurrent ? "page" : undefined} title={conversation.title}>
        {conversation.title}
      </Link>
      <span className="conversation-actions">
        <button type="button" className="icon-button" aria-label={`Rename “${conversation.title}”`} onClick={() => setIsEditing(true)}>
          <Icon name="pencil" size={16} />
        </button>
        <button type="button" className="icon-button" aria-label={`Delete “${conversation.title}”`} onClick={() => void remove()}>
          <Icon name="trash" size={16} />
        </button>
      </span>
      {dialog}
    </li>
  );
}
