import type { KVCacheManager } from "../cache/kv";
import type { Env } from "../env";
import { UpstreamError } from "../http/errors";
import { sha256Hex, truncate } from "../text";

/**
 * Search by meaning: OpenAI's REST API makes vectors, Pinecone's keeps and compares them. Each user
 * has a Pinecone namespace of their own. Vector ids are `<document>#<position>`.
 */

export interface IndexedPassage {
  documentId: string;
  position: number;
  content: string;
}

export interface SemanticMatch {
  documentId: string;
  position: number;
  score: number;
}

const EMBEDDINGS_PER_CALL = 96;

export class SemanticIndex {
  constructor(
    private readonly env: Env,
    private readonly cache: KVCacheManager,
  ) {}

  async add(userId: string, passages: IndexedPassage[]): Promise<void> {
    for (let i = 0; i < passages.length; i += EMBEDDINGS_PER_CALL) {
      const group = passages.slice(i, i + EMBEDDINGS_PER_CALL);
      const vectors = await this.embed(group.map((passage) => passage.content));
      await this.pinecone("/vectors/upsert", {
        namespace: userId,
        vectors: group.map((passage, index) => ({
          id: `${passage.documentId}#${passage.position}`,
          values: vectors[index],
          metadata: { documentId: passage.documentId, position: passage.position },
        })),
      });
    }
  }

  async search(userId: string, query: string, limit: number): Promise<SemanticMatch[]> {
    const model = this.embeddingModel();
    const [vector] = await this.cache.cacheWithPattern(
      `embedding:${model}:${await sha256Hex(query)}`,
      async () => await this.embed([query]),
      86400,
    );
    const answer = await this.pinecone<{ matches?: { id: string; score: number }[] }>("/query", {
      namespace: userId,
      vector,
      topK: limit,
    });
    return (answer.matches ?? []).flatMap((match) => {
      const [documentId, position] = match.id.split("#");
      return documentId && position ? [{ documentId, position: Number(position), score: match.score }] : [];
    });
  }

  async remove(userId: string, documentId: string, chunkCount: number): Promise<void> {
    const ids = Array.from({ length: chunkCount }, (_, position) => `${documentId}#${position}`);
    for (let i = 0; i < ids.length; i += 1000) {
      await this.pinecone("/vectors/delete", { namespace: userId, ids: ids.slice(i, i + 1000) });
    }
  }

  private async embed(texts: string[]): Promise<number[][]> {
    const base = (this.env.OPENAI_BASE_URL ?? "https://api.openai.com/v1").replace(/\/+$/, "");
    const answer = await callJson<{ data: { index: number; embedding: number[] }[] }>(
      "embeddings",
      "The service that reads meaning",
      `${base}/embeddings`,
      { authorization: `Bearer ${this.env.OPENAI_API_KEY ?? ""}` },
      { model: this.embeddingModel(), input: texts.map((text) => truncate(text, 6000)) },
    );
    return answer.data.sort((a, b) => a.index - b.index).map((item) => item.embedding);
  }

  private embeddingModel(): string {
    return this.env.OPENAI_EMBEDDING_MODEL ?? "text-embedding-3-small";
  }

  private async pinecone<T>(path: string, body: unknown): Promise<T> {
    const host = await this.indexHost();
    return await callJson<T>("pinecone", "The vector index", `${host}${path}`, this.pineconeHeaders(), body);
  }

  private async indexHost(): Promise<string> {
    const index = this.env.PINECONE_INDEX ?? "next-mastra-chat";
    const host = await this.cache.cacheWithPattern(`pinecone-host:${index}`, async () => {
      const control = this.env.PINECONE_API_URL ?? "https://api.pinecone.io";
      const description = await callJson<{ host: string }>(
        "pinecone",
        `The vector index “${index}”`,
        `${control}/indexes/${encodeURIComponent(index)}`,
        this.pineconeHeaders(),
      );
      return description.host;
    });
    return host.includes("://") ? host : `https://${host}`;
  }

  private pineconeHeaders(): Record<string, string> {
    return { "api-key": this.env.PINECONE_API_KEY ?? "", "x-pinecone-api-version": "2024-10" };
  }
}

/** The index, or null with what is missing for it. */
export function semanticIndex(env: Env, cache: KVCacheManager): SemanticIndex | null {
  return semanticMissing(env) === null ? new SemanticIndex(env, cache) : null;
}

export function semanticMissing(env: Env): string | null {
  const missing = (["PINECONE_API_KEY", "OPENAI_API_KEY"] as const).filter((name) => !env[name]);
  return missing.length === 0 ? null : `Search by meaning is not configured here: ${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} not set.`;
}

/**
 * Joins two rankings by reciprocal rank, which needs no common scale of scores: each list gives
 * an item 1 / (60 + its place).
 */
export function fuseRankings<T>(lists: T[][], keyOf: (item: T) => string): T[] {
  const scores = new Map<string, { item: T; score: number }>();
  for (const list of lists) {
    for (const [place, item] of list.entries()) {
      const key = keyOf(item);
      const entry = scores.get(key) ?? { item, score: 0 };
      entry.score += 1 / (60 + place + 1);
      scores.set(key, entry);
    }
  }
  return [...scores.values()].sort((a, b) => b.score - a.score).map((entry) => entry.item);
}

async function callJson<T>(service: string, label: string, url: string, headers: Record<string, string>, body?: unknown): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, {
      method: body === undefined ? "GET" : "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    throw new UpstreamError(service, `${label} could not be reached. Try again in a moment.`);
  }
  if (!response.ok) {
    await response.body?.cancel();
    const why = response.status === 401 || response.status === 403 ? "refused our key" : `answered with an error (${response.status})`;
    throw new UpstreamError(service, `${label} ${why}.`);
  }
  return await response.json<T>();
}
