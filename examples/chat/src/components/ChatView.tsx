"use client";

import Link from "next/link";
import { useSearchParams } from "next/navigation";
import { type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react";
import { api, RequestFailure, streamAnswer } from "../client/api";
import { useStore } from "../client/store";
import type { Message } from "../shared/types";
import { Composer } from "./Composer";
import { Icon, Mark } from "./icons";
import { MessageItem } from "./MessageItem";

/** An answer that is arriving: it becomes a message when it is done. */
const DRAFT_ID = "draft";

const draft = (): Message => ({ id: DRAFT_ID, role: "assistant", content: "", model: null, sources: [], status: "complete", createdAt: Date.now() });

export function ChatView(): ReactNode {
  const { putConversation, report, config, conversations } = useStore();
  const wanted = useSearchParams().get("c");
  const title = conversations.find((conversation) => conversation.id === wanted)?.title ?? null;
  const [loadedId, setLoadedId] = useState<string | null>(null);
  const [messages, setMessages] = useState<Message[]>([]);
  const [failure, setFailure] = useState<string | null>(null);
  const [missing, setMissing] = useState<string | null>(null);
  const [streamingIn, setStreamingIn] = useState<string | null>(null);
  const shown = useRef<string | null>(null);
  const abort = useRef<AbortController | null>(null);
  const endRef = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);

  useEffect(() => {
    if (wanted === shown.current) return;
    shown.current = wanted;
    setMessages([]);
    setFailure(null);
    setMissing(null);
    setLoadedId(null);
    if (!wanted) return;
    let isCurrent = true;
    api.conversation(wanted).then(
      (answer) => {
        if (!isCurrent) return;
        isAtEnd.current = true;
        setMessages(answer.messages);
        setLoadedId(wanted);
      },
      (error: unknown) => {
        if (!isCurrent) return;
        if (error instanceof RequestFailure && error.status === 404) setMissing(error.message);
        else report(error);
      },
    );
    return () => {
      isCurrent = false;
    };
  }, [wanted, report]);

  useEffect(() => {
    document.title = title === null ? "Engawa Chat" : `${title} · Engawa Chat`;
  }, [title]);

  // Follow the answer as it grows, unless the reader has scrolled up to read.
  useEffect(() => {
    const observer = new IntersectionObserver(([entry]) => (isAtEnd.current = entry?.isIntersecting ?? true), { rootMargin: "0px 0px 120px 0px" });
    if (endRef.current) observer.observe(endRef.current);
    return () => observer.disconnect();
  }, [messages.length === 0]);
  useLayoutEffect(() => {
    if (isAtEnd.current) endRef.current?.scrollIntoView({ block: "end" });
  }, [messages]);

  const send = async (content: string): Promise<boolean> => {
    setFailure(null);
    let id = wanted;
    const controller = new AbortController();
    abort.current = controller;
    let isStored = false;
    try {
      if (!id) {
        setStreamingIn("new");
        const conversation = await api.createConversation();
        id = conversation.id;
        shown.current = id;
        setLoadedId(id);
        window.history.replaceState(null, "", `/?c=${id}`);
      }
      const target = id;
      const isShown = (): boolean => shown.current === target;
      const changeDraft = (change: (message: Message) => Message): void => {
        if (isShown()) setMessages((all) => all.map((item) => (item.id === DRAFT_ID ? change(item) : item)));
      };
      setStreamingIn(target);
      isAtEnd.current = true;
      await streamAnswer(target, content, controller.signal, (event) => {
        switch (event.event) {
          case "user_message":
            isStored = true;
            putConversation(event.data.conversation);
            if (isShown()) setMessages((all) => [...all, event.data.message, draft()]);
            break;
          case "sources":
            changeDraft((message) => ({ ...message, sources: event.data.sources }));
            break;
          case "delta":
            changeDraft((message) => ({ ...message, content: message.content + event.data.text }));
            break;
          case "done":
            if (isShown()) setMessages((all) => [...all.filter((item) => item.id !== DRAFT_ID && item.id !== event.data.message.id), event.data.message]);
            break;
          case "error":
            if (isShown()) setFailure(event.data.message);
            break;
        }
      });
    } catch (error) {
      if (!controller.signal.aborted) {
        if (error instanceof RequestFailure && error.status !== 401) setFailure(error.message);
        else report(error);
      }
    } finally {
      // Whatever stood in the draft stays, marked as not whole; an empty one goes.
      setMessages((all) =>
        all.flatMap((item) => (item.id !== DRAFT_ID ? [item] : item.content === "" ? [] : [{ ...item, id: crypto.randomUUID(), status: "stopped" as const }])),
      );
      setStreamingIn(null);
      abort.current = null;
    }
    return isStored;
  };

  const isStreaming = streamingIn !== null;
  const isLoading = wanted !== null && loadedId !== wanted && missing === null;
  const isEmpty = messages.length === 0 && !isLoading && missing === null;

  return (
    <div className="chat">
      <div className="chat-scroll">
        {messages.length > 0 && <h1 className="visually-hidden">{title ?? "Conversation"}</h1>}
        {missing !== null && (
          <div className="welcome">
            <h1>{missing}</h1>
            <Link className="button" href="/">
              Start a new conversation
            </Link>
          </div>
        )}
        {isLoading && (
          <div className="chat-loading" role="status">
            <Mark />
            <span className="visually-hidden">Loading the conversation</span>
          </div>
        )}
        {isEmpty && !isStreaming && <Welcome send={(text) => void send(text)} />}
        {messages.length > 0 && (
          <div className="messages" role="log" aria-label="Conversation" aria-live="polite" aria-busy={isStreaming} data-testid="messages">
            {messages.map((message) => (
              <MessageItem key={message.id} message={message} isArriving={message.id === DRAFT_ID} />
            ))}
          </div>
        )}
        {failure && (
          <p className="alert chat-alert" role="alert" data-testid="chat-error">
            {failure}
          </p>
        )}
        <div ref={endRef} className="chat-end" />
      </div>
      <div className="chat-foot">
        <Composer
          key={wanted ?? "new"}
          isStreaming={isStreaming}
          isDisabled={missing !== null || isLoading}
          onSend={send}
          onStop={() => abort.current?.abort()}
        />
        <p className="footnote" data-testid="answers-note">
          {config.answers === "model"
            ? `Answers come from ${config.model} and may be wrong. Check the sources.`
            : "No language model is configured: answers quote your own documents."}
        </p>
      </div>
    </div>
  );
}

function Welcome({ send }: { send: (text: string) => void }): ReactNode {
  const { documents, user } = useStore();
  const first = documents[0];
  const suggestions = documents.slice(0, 3).map((document) => {
    const name = document.name.replace(/\.[a-z]+$/i, "");
    return /[\u3040-\u30ff\u3400-\u9fff]/.test(name) ? `「${name}」には何が書いてありますか？` : `What does “${name}” say?`;
  });
  return (
    <div className="welcome" data-testid="welcome">
      <Mark size={44} />
      <h1>Welcome, {user.name}.</h1>
      {first ? (
        <>
          <p>Ask about your {documents.length === 1 ? "document" : `${documents.length} documents`}, in English or Japanese.</p>
          <ul className="suggestions">
            {suggestions.map((text) => (
              <li key={text}>
                <button type="button" onClick={() => send(text)}>
                  {text}
                </button>
              </li>
            ))}
          </ul>
        </>
      ) : (
        <>
          <p>Begin with a document: a manual, meeting notes, a price list. Then ask about it here.</p>
          <Link className="button button-primary" href="/documents">
            <Icon name="upload" size={18} /> Add a document
          </Link>
        </>
      )}
    </div>
  );
}
