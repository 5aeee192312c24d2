import { LIMITS } from "../lib/env";
import { badRequest, HttpError } from "../lib/http/errors";
import { queryInteger } from "../lib/http/validate";
import { type Passage, searchMessages, searchPassages } from "../lib/search/keyword";
import { fuseRankings, type SemanticMatch, semanticMissing } from "../lib/search/semantic";
import { questionTerms, searchTerms, snippetAround } from "../lib/search/terms";
import type { SearchHit, SearchResponse, SearchType } from "../shared/types";
import { type ApiContext, requireUser } from "./context";

export async function search(context: ApiContext): Promise<Response> {
  const startTime = Date.now();
  const { user } = await requireUser(context);
  const query = (context.url.searchParams.get("q") ?? "").toWellFormed().trim();
  if (query === "") throw badRequest("Type what to search for.");
  if (query.length > LIMITS.queryCharacters) throw badRequest(`The query is longer than ${LIMITS.queryCharacters} characters.`);
  const type = searchTypeOf(context.url.searchParams.get("type") ?? "keyword");
  const limit = queryInteger(context.url, "limit", 20, 1, 50);

  const passages = await findPassages(context, user.id, query, type, limit);
  const terms = searchTerms(query);
  const hits: SearchHit[] = passages.map((passage) => {
    const exact = snippetAround(passage.content, terms);
    return {
      kind: "document",
      id: passage.documentId,
      title: passage.documentName,
      fileUrl: context.files.fileUrl(passage.r2Key),
      ...(exact.highlights.length > 0 ? exact : snippetAround(passage.content, questionTerms(query))),
    };
  });
  if (type !== "semantic") hits.push(...(await searchMessages(context.db, user.id, query, limit)));

  const tookMs = Date.now() - startTime;
  await context.metrics.trackSearchQuery({ userId: user.id, query, resultCount: hits.length, searchTime: tookMs, searchType: type });
  return Response.json({ query, type, hits, tookMs } satisfies SearchResponse);
}

export async function findPassages(context: ApiContext, userId: string, query: string, type: SearchType, limit: number): Promise<Passage[]> {
  if (type === "keyword") return await searchPassages(context.db, userId, query, limit);
  if (!context.semantic) {
    throw new HttpError(409, "semantic_not_configured", semanticMissing(context.env) ?? "Search by meaning is not configured here.");
  }
  const near = await loadMatches(context, userId, await context.semantic.search(userId, query, limit));
  if (type === "semantic") return near;
  const byWord = await searchPassages(context.db, userId, query, limit);
  return fuseRankings([byWord, near], (passage) => `${passage.documentId}#${passage.position}`).slice(0, limit);
}

/** The passages behind the vectors. D1 has the last word on what exists and whose it is. */
async function loadMatches(context: ApiContext, userId: string, matches: SemanticMatch[]): Promise<Passage[]> {
  if (matches.length === 0) return [];
  const wanted = matches.map(({ documentId, position }) => [documentId, position]);
  const rows = await context.db.all<Passage>(
    `SELECT d.public_id AS documentId, d.name AS documentName, d.r2_key AS r2Key, c.position AS position, c.content AS content
     FROM json_each(?1) AS w
     JOIN documents AS d ON d.public_id = json_extract(w.value, '$[0]')
     JOIN document_chunks AS c ON c.document_id = d.id AND c.position = json_extract(w.value, '$[1]')
     WHERE d.user_id = ?2 ORDER BY w.key`,
    JSON.stringify(wanted),
    userId,
  );
  return rows;
}

function searchTypeOf(text: string): SearchType {
  if (text === "keyword" || text === "semantic" || text === "hybrid") return text;
  throw badRequest("type must be keyword, semantic or hybrid.");
}
