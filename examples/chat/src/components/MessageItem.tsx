import { memo, type ReactNode } from "react";
import type { Message } from "../shared/types";
import { Icon } from "./icons";
import { Markdown } from "./Markdown";

export const MessageItem = memo(function MessageItem({ message, isArriving }: { message: Message; isArriving: boolean }): ReactNode {
  if (message.role === "user") {
    return (
      <article className="message message-user" aria-label="You" data-testid="message-user">
        <p>{message.content}</p>
      </article>
    );
  }
  const cited = isArriving ? [] : message.sources;
  return (
    <article className="message message-assistant" aria-label="Answer" data-testid="message-assistant" data-arriving={isArriving}>
      {message.content === "" ? (
        <p className="thinking">
          <span className="visually-hidden">Looking through your documents</span>
          <i />
          <i />
          <i />
        </p>
      ) : (
        <div className="prose" data-testid="answer-text">
          <Markdown text={message.content} sources={message.sources} />
        </div>
      )}
      {message.status === "stopped" && <p className="message-note">Stopped before the end.</p>}
      {message.status === "failed" && <p className="message-note">This answer is not whole: an error cut it short.</p>}
      {cited.length > 0 && (
        <details className="sources" data-testid="sources">
          <summary>
            <Icon name="document" size={16} /> {cited.length === 1 ? "1 source" : `${cited.length} sources`}
          </summary>
          <ol>
            {cited.map((source) => (
              <li key={source.number} value={source.number}>
                <a href={source.fileUrl} target="_blank" rel="noreferrer">
                  {source.documentName}
                </a>
                <q>{source.excerpt}</q>
              </li>
            ))}
          </ol>
        </details>
      )}
    </article>
  );
});
