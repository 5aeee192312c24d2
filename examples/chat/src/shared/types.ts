// What travels between the page and the API.

export type SearchType = "keyword" | "semantic" | "hybrid";
export type Theme = "system" | "light" | "dark";

export interface AppConfig {
  auth: "local" | "clerk";
  /** Set when `auth` is "clerk": what Clerk's script in the page needs. */
  clerkPublishableKey: string | null;
  /** "model": a language model answers. "retrieval": answers are put together from the documents. */
  answers: "model" | "retrieval";
  model: string | null;
  search: { keyword: true; semantic: boolean; semanticMissing: string | null };
  limits: { uploadBytes: number; messageCharacters: number; fileTypes: string[] };
}

export interface User {
  id: string;
  name: string;
  email: string;
  theme: Theme;
}

export interface Conversation {
  id: string;
  title: string;
  createdAt: number;
  updatedAt: number;
}

export interface Source {
  /** The number in the answer's [1]. */
  number: number;
  documentId: string;
  documentName: string;
  fileUrl: string;
  excerpt: string;
}

export interface Message {
  id: string;
  role: "user" | "assistant";
  content: string;
  model: string | null;
  sources: Source[];
  status: "complete" | "stopped" | "failed";
  createdAt: number;
}

export interface DocumentSummary {
  id: string;
  name: string;
  contentType: string;
  sizeBytes: number;
  status: "processing" | "ready" | "partial" | "failed";
  note: string | null;
  chunkCount: number;
  createdAt: number;
  fileUrl: string;
}

export interface SearchHit {
  kind: "document" | "message";
  /** The document's or the conversation's id. */
  id: string;
  title: string;
  fileUrl: string | null;
  snippet: string;
  /** Pairs of [start, end) in `snippet`, in UTF-16 units, sorted and apart. */
  highlights: [number, number][];
}

export interface SearchResponse {
  query: string;
  type: SearchType;
  hits: SearchHit[];
  tookMs: number;
}

export interface UsageLine {
  metric: string;
  label: string;
  used: number;
  limit: number;
  unit: string;
  period: "day" | "month" | "total";
}

export interface ApiError {
  error: { code: string; message: string };
}

/** The events of a streamed answer, in this order: user_message, sources, delta…, then done or error. */
export type AnswerEvent =
  | { event: "user_message"; data: { message: Message; conversation: Conversation } }
  | { event: "sources"; data: { sources: Source[] } }
  | { event: "delta"; data: { text: string } }
  | { event: "done"; data: { message: Message } }
  | { event: "error"; data: { code: string; message: string } };
