import type { SearchHit } from "../../shared/types";
import type { DatabaseManager, SqlValue } from "../db/d1";
import { questionTerms, searchTerms, snippetAround, termCondition } from "./terms";

export interface Passage {
  documentId: string;
  documentName: string;
  r2Key: string;
  position: number;
  content: string;
}

const PASSAGE_COLUMNS = `d.public_id AS documentId, d.name AS documentName, d.r2_key AS r2Key, c.position AS position, c.content AS content`;

/** Passages of this user's documents that contain every word, or failing that any of them. */
export async function searchPassages(db: DatabaseManager, userId: string, query: string, limit: number): Promise<Passage[]> {
  const terms = searchTerms(query);
  if (terms.length === 0) return [];
  const all = await passagesWith(db, userId, terms, "and", limit);
  if (all.length > 0) return all;
  return await passagesForQuestion(db, userId, query, limit);
}

/** Passages that best speak of what a question asks, best first. */
export async function passagesForQuestion(db: DatabaseManager, userId: string, question: string, limit: number): Promise<Passage[]> {
  const terms = questionTerms(question);
  if (terms.length === 0) return [];
  const long = terms.filter((term) => Array.from(term).length >= 3);
  const short = terms.filter((term) => Array.from(term).length < 3);
  const found = long.length > 0 ? await passagesWith(db, userId, long, "or", limit) : [];
  if (short.length > 0 && found.length < limit) {
    const known = new Set(found.map((passage) => `${passage.documentId} ${passage.position}`));
    const more = await passagesWith(db, userId, short, "or", limit * 4);
    const score = (passage: Passage): number => short.filter((term) => passage.content.toLowerCase().includes(term)).length;
    more.sort((a, b) => score(b) - score(a));
    found.push(...more.filter((passage) => !known.has(`${passage.documentId} ${passage.position}`)));
  }
  if (found.length < limit) {
    const known = new Set(found.map((passage) => passage.documentId));
    found.push(...(await openingsOfNamed(db, userId, terms)).filter((passage) => !known.has(passage.documentId)));
  }
  return found.slice(0, limit);
}

/** How documents begin whose name a question mentions. */
async function openingsOfNamed(db: DatabaseManager, userId: string, terms: string[]): Promise<Passage[]> {
  return await db.all<Passage>(
    `SELECT ${PASSAGE_COLUMNS} FROM documents AS d JOIN document_chunks AS c ON c.document_id = d.id AND c.position < 2
     WHERE d.user_id = ? AND (${terms.map(() => "instr(lower(d.name), ?) > 0").join(" OR ")})
     ORDER BY d.id DESC, c.position LIMIT 4`,
    userId,
    ...terms,
  );
}

async function passagesWith(db: DatabaseManager, userId: string, terms: string[], mode: "and" | "or", limit: number): Promise<Passage[]> {
  const condition = termCondition(terms, "document_chunks_fts", "c.content", mode);
  const source = condition.usesIndex
    ? "document_chunks_fts JOIN document_chunks AS c ON c.id = document_chunks_fts.rowid"
    : "document_chunks AS c";
  return await db.all<Passage>(
    `SELECT ${PASSAGE_COLUMNS} FROM ${source} JOIN documents AS d ON d.id = c.document_id
     WHERE ${condition.sql} AND c.user_id = ?
     ORDER BY ${condition.usesIndex ? "bm25(document_chunks_fts)" : "c.document_id DESC, c.position"} LIMIT ?`,
    ...([...condition.params, userId, limit] as SqlValue[]),
  );
}

/** Things said in this user's conversations that contain every word, newest first. */
export async function searchMessages(db: DatabaseManager, userId: string, query: string, limit: number): Promise<SearchHit[]> {
  const terms = searchTerms(query);
  if (terms.length === 0) return [];
  const condition = termCondition(terms, "messages_fts", "m.content", "and");
  const source = condition.usesIndex ? "messages_fts JOIN messages AS m ON m.id = messages_fts.rowid" : "messages AS m";
  const rows = await db.all<{ id: string; title: string; content: string }>(
    `SELECT v.id AS id, v.title AS title, m.content AS content
     FROM ${source} JOIN conversations AS v ON v.id = m.conversation_id
     WHERE ${condition.sql} AND m.user_id = ? ORDER BY m.id DESC LIMIT ?`,
    ...([...condition.params, userId, limit] as SqlValue[]),
  );
  return rows.map((row) => ({ kind: "message", id: row.id, title: row.title, fileUrl: null, ...snippetAround(row.content, terms) }));
}
