import type {
  AnswerEvent,
  ApiError,
  AppConfig,
  Conversation,
  DocumentSummary,
  Message,
  SearchResponse,
  SearchType,
  Theme,
  UsageLine,
  User,
} from "../shared/types";

/** The API as the page calls it. Every failure is a `RequestFailure` with words for the user. */

export class RequestFailure extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const UNREACHABLE = "The server cannot be reached. Check your connection, then try again.";

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new RequestFailure(0, "unreachable", UNREACHABLE);
  }
  if (!response.ok) throw await failureOf(response.status, await response.text());
  return (response.status === 204 ? undefined : await response.json()) as T;
}

function failureOf(status: number, body: string): RequestFailure {
  try {
    const { error } = JSON.parse(body) as ApiError;
    return new RequestFailure(status, error.code, error.message);
  } catch {
    return new RequestFailure(status, "unexpected", `The server answered with an error (${status}). Try again in a moment.`);
  }
}

export const api = {
  config: () => call<AppConfig>("GET", "/config"),
  session: async () => (await call<{ user: User | null }>("GET", "/session")).user,
  signIn: async (details: { name: string; email: string } | { token: string }) =>
    (await call<{ user: User }>("POST", "/session", details)).user,
  signOut: () => call<unknown>("DELETE", "/session"),
  setTheme: (theme: Theme) => call<unknown>("PATCH", "/session", { theme }),
  usage: async () => (await call<{ usage: UsageLine[] }>("GET", "/usage")).usage,
  conversations: async () => (await call<{ conversations: Conversation[] }>("GET", "/conversations")).conversations,
  createConversation: async () => (await call<{ conversation: Conversation }>("POST", "/conversations", {})).conversation,
  conversation: (id: string) => call<{ conversation: Conversation; messages: Message[] }>("GET", `/conversations/${encodeURIComponent(id)}`),
  renameConversation: async (id: string, title: string) =>
    (await call<{ conversation: Conversation }>("PATCH", `/conversations/${encodeURIComponent(id)}`, { title })).conversation,
  deleteConversation: (id: string) => call<void>("DELETE", `/conversations/${encodeURIComponent(id)}`),
  documents: async () => (await call<{ documents: DocumentSummary[] }>("GET", "/documents")).documents,
  deleteDocument: (id: string) => call<void>("DELETE", `/documents/${encodeURIComponent(id)}`),
  search: (query: string, type: SearchType) => call<SearchResponse>("GET", `/search?${new URLSearchParams({ q: query, type })}`),
};

/** Sends a message and hands over the answer's events as they arrive, until the stream ends. */
export async function streamAnswer(
  conversationId: string,
  content: string,
  signal: AbortSignal,
  onEvent: (event: AnswerEvent) => void,
): Promise<void> {
  let response: Response;
  try {
    response = await fetch(`/api/v1/conversations/${encodeURIComponent(conversationId)}/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "text/event-stream" },
      body: JSON.stringify({ content }),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new RequestFailure(0, "unreachable", UNREACHABLE);
  }
  if (!response.ok || !response.body) throw failureOf(response.status, await response.text());

  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  let isFinished = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      pending += decoder.decode(value, { stream: true });
      const blocks = pending.split("\n\n");
      pending = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (!event || !data) continue;
        isFinished ||= event === "done" || event === "error";
        onEvent({ event, data: JSON.parse(data) } as AnswerEvent);
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  if (!isFinished) throw new RequestFailure(0, "cut_off", "The answer was cut off. What arrived is shown; ask again for the rest.");
}

/** Uploads one file; `onProgress` hears the share that has gone out, from 0 to 1. */
export function uploadDocument(file: File, onProgress: (share: number) => void): Promise<DocumentSummary> {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.set("file", file);
    // fetch cannot tell how far an upload has come.
    const request = new XMLHttpRequest();
    request.open("POST", "/api/v1/documents");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    request.upload.onload = () => onProgress(1);
    request.onload = () => {
      if (request.status === 201) resolve((JSON.parse(request.responseText) as { document: DocumentSummary }).document);
      else reject(failureOf(request.status, request.responseText));
    };
    request.onerror = () => reject(new RequestFailure(0, "unreachable", "The upload did not get through. Check your connection, then try again."));
    request.send(form);
  });
}
