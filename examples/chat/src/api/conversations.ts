import { LIMITS } from "../lib/env";
import { HttpError, notFound } from "../lib/http/errors";
import { queryInteger, readJson, requireText } from "../lib/http/validate";
import type { Conversation, Message } from "../shared/types";
import { type ApiContext, requireUser } from "./context";

const COLUMNS = "id, title, created_at AS createdAt, updated_at AS updatedAt";

export interface MessageRow {
  id: string;
  role: "user" | "assistant";
  content: string;
  model: string | null;
  sources: string;
  status: Message["status"];
  createdAt: number;
}

export const MESSAGE_COLUMNS = "public_id AS id, role, content, model, sources, status, created_at AS createdAt";

export const messageFromRow = (row: MessageRow): Message => ({ ...row, sources: JSON.parse(row.sources) as Message["sources"] });

export async function listConversations(context: ApiContext): Promise<Response> {
  const { user } = await requireUser(context);
  const limit = queryInteger(context.url, "limit", 100, 1, LIMITS.conversationsPerUser);
  const conversations = await context.db.all<Conversation>(
    `SELECT ${COLUMNS} FROM conversations WHERE user_id = ? ORDER BY updated_at DESC, id LIMIT ?`,
    user.id,
    limit,
  );
  return Response.json({ conversations });
}

export async function createConversation(context: ApiContext): Promise<Response> {
  const { user } = await requireUser(context);
  const body = await readJson(context.request);
  const title = body["title"] === undefined ? "New conversation" : requireText(body, "title", "The title", LIMITS.titleCharacters);
  const now = Date.now();
  const conversation: Conversation = { id: crypto.randomUUID(), title, createdAt: now, updatedAt: now };
  // One statement, so that two at once cannot both pass the bound.
  const added = await context.db.run(
    `INSERT INTO conversations (id, user_id, title, created_at, updated_at)
     SELECT ?1, ?2, ?3, ?4, ?4 WHERE (SELECT count(*) FROM conversations WHERE user_id = ?2) < ?5`,
    conversation.id,
    user.id,
    title,
    now,
    LIMITS.conversationsPerUser,
  );
  if (added === 0) {
    throw new HttpError(409, "too_many_conversations", `You have ${LIMITS.conversationsPerUser} conversations, which is as many as fit. Delete some first.`);
  }
  return Response.json({ conversation }, { status: 201 });
}

export async function readConversation(context: ApiContext, { id }: { id: string }): Promise<Response> {
  const { user } = await requireUser(context);
  const conversation = await ownConversation(context, user.id, id);
  const rows = await context.db.all<MessageRow>(
    `SELECT ${MESSAGE_COLUMNS} FROM messages WHERE conversation_id = ? ORDER BY messages.id LIMIT ?`,
    id,
    LIMITS.messagesPerConversation,
  );
  return Response.json({ conversation, messages: rows.map(messageFromRow) });
}

export async function renameConversation(context: ApiContext, { id }: { id: string }): Promise<Response> {
  const { user } = await requireUser(context);
  const title = requireText(await readJson(context.request), "title", "The title", LIMITS.titleCharacters);
  const conversation = await context.db.first<Conversation>(
    `UPDATE conversations SET title = ? WHERE id = ? AND user_id = ? RETURNING ${COLUMNS}`,
    title,
    id,
    user.id,
  );
  if (!conversation) throw notFound("conversation");
  return Response.json({ conversation });
}

export async function deleteConversation(context: ApiContext, { id }: { id: string }): Promise<Response> {
  const { user } = await requireUser(context);
  const deleted = await context.db.first("DELETE FROM conversations WHERE id = ? AND user_id = ? RETURNING id", id, user.id);
  if (!deleted) throw notFound("conversation");
  return new Response(null, { status: 204 });
}

/** The conversation, if it is this user's; otherwise 404, as if there were none. */
export async function ownConversation(context: ApiContext, userId: string, id: string): Promise<Conversation> {
  const conversation = await context.db.first<Conversation>(`SELECT ${COLUMNS} FROM conversations WHERE id = ? AND user_id = ?`, id, userId);
  if (!conversation) throw notFound("conversation");
  return conversation;
}
