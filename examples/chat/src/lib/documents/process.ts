import type { DatabaseManager } from "../db/d1";
import { LIMITS } from "../env";
import type { SemanticIndex } from "../search/semantic";
import { splitDocumentIntoChunks, splitIntoPassages } from "./chunk";
import { extractText } from "./extract";

export interface StoredDocument {
  /** documents.id */
  rowId: number;
  publicId: string;
  userId: string;
  contentType: string;
}

export interface Outcome {
  chunkCount: number;
  /** Whether the document was too long to be indexed whole. */
  isPartial: boolean;
}

interface ChunkRecord {
  document_id: number;
  user_id: string;
  position: number;
  content: string;
}

/**
 * Reads a document into passages, one megabyte of text at a time, so that neither the memory nor
 * the CPU time of a Function runs out. `semantic` is null where no vector index is configured.
 */
export async function processLargeDocument(
  file: Blob,
  document: StoredDocument,
  db: DatabaseManager,
  semantic: SemanticIndex | null,
): Promise<Outcome> {
  const text = new Blob([extractText(await file.arrayBuffer(), document.contentType)]);
  let position = 0;
  for await (const chunk of splitDocumentIntoChunks(text, { maxSize: 1024 * 1024 })) {
    // A pause between the pieces lets other work of this isolate run.
    if (position > 0) await new Promise((resolve) => setTimeout(resolve, 100));

    const room = LIMITS.chunksPerDocument - position;
    const passages = splitIntoPassages(chunk);
    await processChunk(passages.slice(0, room), position, document, db, semantic);
    position += Math.min(passages.length, room);
    if (passages.length > room) return { chunkCount: position, isPartial: true };
  }
  return { chunkCount: position, isPartial: false };
}

async function processChunk(
  passages: string[],
  position: number,
  document: StoredDocument,
  db: DatabaseManager,
  semantic: SemanticIndex | null,
): Promise<void> {
  const records: ChunkRecord[] = passages.map((content, index) => ({
    document_id: document.rowId,
    user_id: document.userId,
    position: position + index,
    content,
  }));
  await db.batchInsert("document_chunks", records);
  await semantic?.add(
    document.userId,
    records.map((record) => ({ documentId: document.publicId, position: record.position, content: record.content })),
  );
}
