"use client";

import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import type { AppConfig, Conversation, DocumentSummary, Theme, User } from "../shared/types";
import { api, RequestFailure, uploadDocument } from "./api";

/** What all views share: who is here, their conversations, their documents and uploads. */

export interface Upload {
  key: number;
  name: string;
  /** From 0 to 1; 1 means that the file has arrived and is being read. */
  share: number;
  error: string | null;
}

interface Store {
  config: AppConfig;
  user: User;
  conversations: Conversation[];
  documents: DocumentSummary[];
  uploads: Upload[];
  notice: string | null;
  setNotice(text: string | null): void;
  putConversation(conversation: Conversation): void;
  removeConversation(id: string): Promise<void>;
  renameConversation(id: string, title: string): Promise<void>;
  addFiles(files: Iterable<File>): void;
  dismissUpload(key: number): void;
  removeDocument(id: string): Promise<void>;
  setTheme(theme: Theme): void;
  signOut(): Promise<void>;
  /** Says what went wrong; ends the session in the page when it has ended on the server. */
  report(error: unknown): void;
}

const StoreContext = createContext<Store | null>(null);

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (!store) throw new Error("useStore outside of StoreProvider");
  return store;
}

export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

export function StoreProvider(props: { config: AppConfig; user: User; onSignedOut: (why: string | null) => void; children: ReactNode }): ReactNode {
  const { config, onSignedOut } = props;
  const [user, setUser] = useState(props.user);
  const [conversations, setConversations] = useState<Conversation[]>([]);
  const [documents, setDocuments] = useState<DocumentSummary[]>([]);
  const [uploads, setUploads] = useState<Upload[]>([]);
  const [notice, setNotice] = useState<string | null>(null);
  const nextUpload = useRef(1);

  const report = useCallback(
    (error: unknown) => {
      if (error instanceof RequestFailure && error.status === 401) onSignedOut(error.message);
      else setNotice(error instanceof RequestFailure ? error.message : "Something went wrong on this page. Reload it, then try again.");
    },
    [onSignedOut],
  );

  useEffect(() => {
    api.conversations().then(setConversations, report);
    api.documents().then(setDocuments, report);
  }, [report]);

  useEffect(() => applyTheme(user.theme), [user.theme]);

  const putConversation = useCallback((conversation: Conversation) => {
    setConversations((all) => [conversation, ...all.filter((item) => item.id !== conversation.id)].sort((a, b) => b.updatedAt - a.updatedAt));
  }, []);

  const addFiles = useCallback(
    (files: Iterable<File>) => {
      for (const file of files) {
        const key = nextUpload.current++;
        const change = (part: Partial<Upload>): void => setUploads((all) => all.map((item) => (item.key === key ? { ...item, ...part } : item)));
        setUploads((all) => [...all, { key, name: file.name, share: 0, error: null }]);
        if (file.size > config.limits.uploadBytes) {
          change({ error: `Files may be up to ${config.limits.uploadBytes / 1024 / 1024} MB.` });
          continue;
        }
        uploadDocument(file, (share) => change({ share })).then(
          (document) => {
            setUploads((all) => all.filter((item) => item.key !== key));
            setDocuments((all) => [document, ...all.filter((item) => item.id !== document.id)]);
          },
          (error: unknown) => {
            if (error instanceof RequestFailure && error.status === 401) report(error);
            change({ error: error instanceof Error ? error.message : "The upload failed." });
          },
        );
      }
    },
    [config.limits.uploadBytes, report],
  );

  const store = useMemo<Store>(
    () => ({
      config,
      user,
      conversations,
      documents,
      uploads,
      notice,
      setNotice,
      putConversation,
      report,
      addFiles,
      dismissUpload: (key) => setUploads((all) => all.filter((item) => item.key !== key)),
      removeConversation: async (id) => {
        await api.deleteConversation(id);
        setConversations((all) => all.filter((item) => item.id !== id));
      },
      renameConversation: async (id, title) => {
        const conversation = await api.renameConversation(id, title);
        setConversations((all) => all.map((item) => (item.id === id ? conversation : item)));
      },
      removeDocument: async (id) => {
        await api.deleteDocument(id);
        setDocuments((all) => all.filter((item) => item.id !== id));
      },
      setTheme: (theme) => {
        setUser((current) => ({ ...current, theme }));
        api.setTheme(theme).catch(report);
      },
      signOut: async () => {
        await api.signOut();
        onSignedOut(null);
      },
    }),
    [config, user, conversations, documents, uploads, notice, putConversation, report, addFiles, onSignedOut],
  );
  return <StoreContext.Provider value={store}>{props.children}</StoreContext.Provider>;
}
