"use client";

import { type ReactNode, useCallback, useEffect, useRef, useState } from "react";

interface Question {
  title: string;
  text: string;
  action: string;
  answer: (yes: boolean) => void;
}

/** Asks before something is deleted for good. */
export function useConfirm(): { confirm: (title: string, text: string, action: string) => Promise<boolean>; dialog: ReactNode } {
  const [question, setQuestion] = useState<Question | null>(null);
  const element = useRef<HTMLDialogElement>(null);

  const confirm = useCallback(
    (title: string, text: string, action: string) =>
      new Promise<boolean>((resolve) => {
        setQuestion({
          title,
          text,
          action,
          answer: (yes) => {
            setQuestion(null);
            resolve(yes);
          },
        });
      }),
    [],
  );

  useEffect(() => {
    if (question && !element.current?.open) element.current?.showModal();
  }, [question]);

  const dialog = question && (
    <dialog ref={element} className="dialog" aria-labelledby="confirm-title" onCancel={() => question.answer(false)}>
      <h2 id="confirm-title">{question.title}</h2>
      <p>{question.text}</p>
      <div className="dialog-actions">
        <button type="button" className="button" onClick={() => question.answer(false)} autoFocus>
          Keep
        </button>
        <button type="button" className="button button-danger" onClick={() => question.answer(true)} data-testid="confirm">
          {question.action}
        </button>
      </div>
    </dialog>
  );
  return { confirm, dialog };
}
