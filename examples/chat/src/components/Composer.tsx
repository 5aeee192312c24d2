"use client";

import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { useStore } from "../client/store";
import { Icon } from "./icons";
import { UploadList } from "./UploadList";

interface Props {
  isStreaming: boolean;
  isDisabled: boolean;
  /** Resolves with whether the message was taken; if not, the text comes back. */
  onSend: (content: string) => Promise<boolean>;
  onStop: () => void;
}

export function Composer({ isStreaming, isDisabled, onSend, onStop }: Props): ReactNode {
  const { config, addFiles, uploads } = useStore();
  const [text, setText] = useState("");
  const input = useRef<HTMLTextAreaElement>(null);
  const files = useRef<HTMLInputElement>(null);

  // As tall as its text, up to the height that CSS allows.
  useEffect(() => {
    const element = input.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);
  useEffect(() => {
    // On a phone, focus would open the keyboard over the page.
    if (window.matchMedia("(pointer: fine)").matches) input.current?.focus();
  }, []);

  const submit = (event?: FormEvent): void => {
    event?.preventDefault();
    const content = text.trim();
    if (content === "" || isStreaming || isDisabled) return;
    setText("");
    void onSend(content).then((isTaken) => {
      if (!isTaken) setText((current) => (current === "" ? content : current));
    });
  };

  return (
    <>
      {uploads.length > 0 && <UploadList />}
      <form className="composer" onSubmit={submit}>
        <input
          ref={files}
          type="file"
          multiple
          hidden
          accept={config.limits.fileTypes.join(",")}
          onChange={(event) => {
            addFiles(Array.from(event.currentTarget.files ?? []));
            event.currentTarget.value = "";
          }}
        />
        <button type="button" className="icon-button" aria-label="Add documents" title="Add documents" onClick={() => files.current?.click()}>
          <Icon name="attach" />
        </button>
        <textarea
          ref={input}
          rows={1}
          value={text}
          maxLength={config.limits.messageCharacters}
          placeholder="Ask about your documents"
          aria-label="Your message"
          data-testid="composer-input"
          onChange={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            // Enter also confirms a conversion of a Japanese input method: that is not yet sending.
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing || event.keyCode === 229) return;
            event.preventDefault();
            submit();
          }}
        />
        {isStreaming ? (
          <button type="button" className="round-button" aria-label="Stop the answer" onClick={onStop} data-testid="composer-stop">
            <Icon name="stop" />
          </button>
        ) : (
          <button className="round-button" aria-label="Send" disabled={text.trim() === "" || isDisabled} data-testid="composer-send">
            <Icon name="send" />
          </button>
        )}
      </form>
    </>
  );
}
