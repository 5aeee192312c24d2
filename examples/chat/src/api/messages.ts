import { buildPrompt, modelName, streamCompletion, type Turn } from "../lib/chat/openai";
import { composeAnswer, paced, RETRIEVAL_MODEL, sourcesOf } from "../lib/chat/retrieval";
import { LIMITS } from "../lib/env";
import { HttpError, UpstreamError } from "../lib/http/errors";
import { encodeEvent } from "../lib/http/sse";
import { readJson, requireText } from "../lib/http/validate";
import { type Passage, passagesForQuestion } from "../lib/search/keyword";
import { truncate } from "../lib/text";
import type { AnswerEvent, Conversation, Message } from "../shared/types";
import { type ApiContext, requireUser } from "./context";
import { MESSAGE_COLUMNS, type MessageRow, messageFromRow, ownConversation } from "./conversations";
import { findPassages } from "./search";

const PASSAGES_FOR_ANSWER = 6;

/**
 * Takes a question and streams its answer as server-sent events. The question is stored before
 * the first event goes out; the answer when it is whole, or as far as it got when the reader
 * leaves or the model fails.
 */
export async function sendMessage(context: ApiContext, { id }: { id: string }): Promise<Response> {
  const startTime = Date.now();
  const { user } = await requireUser(context);
  const content = requireText(await readJson(context.request), "content", "Your message", LIMITS.messageCharacters);
  const before = await ownConversation(context, user.id, id);
  await checkRate(context, user.id, id);
  const { message, conversation } = await storeQuestion(context, user.id, before, content);

  const reader = new AbortController();
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const send = async ({ event, data }: AnswerEvent): Promise<void> => {
    try {
      await writer.write(encoder.encode(encodeEvent(event, data)));
    } catch {
      reader.abort();
    }
  };
  // Also stops a model that is thinking while nobody listens any more.
  writer.closed.catch(() => reader.abort());

  const work = async (): Promise<void> => {
    await send({ event: "user_message", data: { message, conversation } });
    await answer(context, user.id, conversation, content, startTime, reader.signal, send);
    await writer.close().catch(() => undefined);
  };
  context.after(work());
  return new Response(readable, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    },
  });
}

async function answer(
  context: ApiContext,
  userId: string,
  conversation: Conversation,
  question: string,
  startTime: number,
  signal: AbortSignal,
  send: (event: AnswerEvent) => Promise<void>,
): Promise<void> {
  const usesModel = Boolean(context.env.OPENAI_API_KEY);
  const model = usesModel ? modelName(context.env) : RETRIEVAL_MODEL;
  let text = "";
  let sources: Message["sources"] = [];
  let status: Message["status"] = "complete";
  let failure: { code: string; message: string } | null = null;
  try {
    const passages = await passagesForAnswer(context, userId, question);
    sources = sourcesOf(passages, question, (key) => context.files.fileUrl(key));
    let pieces: AsyncGenerator<string>;
    if (usesModel) {
      pieces = streamCompletion(context.env, buildPrompt(await turnsOf(context, conversation.id), passages, sources), signal);
    } else {
      const sentences = composeAnswer(question, passages, sources, await documentCount(context, userId));
      // Sources that no sentence quotes would only mislead.
      sources = sources.filter((source) => sentences.some((sentence) => sentence.includes(`[${source.number}]`)));
      pieces = paced(sentences, signal);
    }
    await send({ event: "sources", data: { sources } });
    for await (const piece of pieces) {
      text += piece;
      await send({ event: "delta", data: { text: piece } });
      if (signal.aborted) break;
    }
    if (signal.aborted) status = "stopped";
    else if (text.trim() === "") throw new UpstreamError("model", "The language model gave an empty answer. Try asking in another way.");
  } catch (error) {
    if (signal.aborted) status = "stopped";
    else {
      status = "failed";
      failure = explain(error);
      await context.logger.logError(error instanceof Error ? error : new Error(String(error)), { where: "answer", conversationId: conversation.id });
    }
  }

  const message: Message = {
    id: crypto.randomUUID(),
    role: "assistant",
    content: text.trim(),
    model,
    sources,
    status,
    createdAt: Date.now(),
  };
  if (message.content !== "") {
    try {
      await storeAnswer(context, userId, conversation.id, message);
    } catch (error) {
      failure ??= { code: "not_saved", message: "This answer could not be saved. It will be gone when you leave the page." };
      await context.logger.logError(error instanceof Error ? error : new Error(String(error)), { where: "store answer" });
    }
  }
  await send(failure ? { event: "error", data: failure } : { event: "done", data: { message } });
  await context.metrics.trackChatMessage({
    userId,
    conversationId: conversation.id,
    messageLength: question.length,
    responseTime: Date.now() - startTime,
    model,
    hasRAG: sources.length > 0,
  });
}

/** By words and, where it is configured, by meaning as well; a vector index that fails costs only that. */
async function passagesForAnswer(context: ApiContext, userId: string, question: string): Promise<Passage[]> {
  if (context.semantic) {
    try {
      return await findPassages(context, userId, truncate(question, 1000), "hybrid", PASSAGES_FOR_ANSWER);
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      await context.logger.logError(error, { where: "semantic passages" });
    }
  }
  return await passagesForQuestion(context.db, userId, question, PASSAGES_FOR_ANSWER);
}

async function checkRate(context: ApiContext, userId: string, conversationId: string): Promise<void> {
  const counts = await context.db.first<{ recent: number; held: number }>(
    `SELECT (SELECT count(*) FROM messages WHERE user_id = ?1 AND role = 'user' AND created_at > ?2) AS recent,
            (SELECT count(*) FROM messages WHERE conversation_id = ?3) AS held`,
    userId,
    Date.now() - 60_000,
    conversationId,
  );
  if (counts && counts.recent >= LIMITS.messagesPerMinute) {
    throw new HttpError(429, "too_fast", "That is a lot of messages in one minute. Wait a moment, then send it again.", { "retry-after": "60" });
  }
  if (counts && counts.held >= LIMITS.messagesPerConversation - 1) {
    throw new HttpError(409, "conversation_full", "This conversation is full. Start a new one.");
  }
}

async function storeQuestion(context: ApiContext, userId: string, before: Conversation, content: string): Promise<{ message: Message; conversation: Conversation }> {
  const now = Date.now();
  const message: Message = { id: crypto.randomUUID(), role: "user", content, model: null, sources: [], status: "complete", createdAt: now };
  const first = await context.db.first<{ held: number }>("SELECT EXISTS (SELECT 1 FROM messages WHERE conversation_id = ?) AS held", before.id);
  const title = first?.held === 0 && before.title === "New conversation" ? titleFrom(content) : before.title;
  await context.db.transaction(async (transaction) => {
    transaction.run(
      "INSERT INTO messages (public_id, conversation_id, user_id, role, content, created_at) VALUES (?, ?, ?, 'user', ?, ?)",
      message.id,
      before.id,
      userId,
      content,
      now,
    );
    transaction.run("UPDATE conversations SET title = ?, updated_at = ? WHERE id = ?", title, now, before.id);
  });
  return { message, conversation: { ...before, title, updatedAt: now } };
}

async function storeAnswer(context: ApiContext, userId: string, conversationId: string, message: Message): Promise<void> {
  await context.db.transaction(async (transaction) => {
    // Nothing is kept for a conversation that was deleted meanwhile.
    transaction.run(
      `INSERT INTO messages (public_id, conversation_id, user_id, role, content, model, sources, status, created_at)
       SELECT ?, id, ?, 'assistant', ?, ?, ?, ?, ? FROM conversations WHERE id = ?`,
      message.id,
      userId,
      message.content,
      message.model,
      JSON.stringify(message.sources),
      message.status,
      message.createdAt,
      conversationId,
    );
    transaction.run("UPDATE conversations SET updated_at = ? WHERE id = ?", message.createdAt, conversationId);
  });
}

async function turnsOf(context: ApiContext, conversationId: string): Promise<Turn[]> {
  const rows = await context.db.all<MessageRow>(
    `SELECT ${MESSAGE_COLUMNS} FROM messages WHERE conversation_id = ? ORDER BY messages.id DESC LIMIT 20`,
    conversationId,
  );
  return rows.map(messageFromRow).reverse().map(({ role, content }) => ({ role, content }));
}

async function documentCount(context: ApiContext, userId: string): Promise<number> {
  return (await context.db.first<{ count: number }>("SELECT count(*) AS count FROM documents WHERE user_id = ?", userId))?.count ?? 0;
}

function titleFrom(content: string): string {
  const line = content.split("\n")[0]?.trim() ?? "";
  return line.length <= 60 ? line : `${truncate(line, 59)}…`;
}

function explain(error: unknown): { code: string; message: string } {
  if (error instanceof HttpError) return { code: error.code, message: error.message };
  if (error instanceof UpstreamError) return { code: `${error.service}_failed`, message: error.message };
  return { code: "internal", message: "Something went wrong while answering. Your question is saved; try again." };
}
