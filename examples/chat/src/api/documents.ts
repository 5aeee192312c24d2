import { contentTypeOf } from "../lib/documents/extract";
import { processLargeDocument } from "../lib/documents/process";
import { LIMITS } from "../lib/env";
import { badRequest, HttpError, notFound, UpstreamError } from "../lib/http/errors";
import { FileKeyGenerator } from "../lib/storage/r2";
import type { DocumentSummary } from "../shared/types";
import { type ApiContext, requireUser } from "./context";

type DocumentRow = Omit<DocumentSummary, "fileUrl"> & { r2Key: string };

const COLUMNS =
  "public_id AS id, name, content_type AS contentType, size_bytes AS sizeBytes, r2_key AS r2Key, status, note, chunk_count AS chunkCount, created_at AS createdAt";

/** What the parts of a form around the file may add to its size. */
const FORM_OVERHEAD_BYTES = 16 * 1024;

export async function listDocuments(context: ApiContext): Promise<Response> {
  const { user } = await requireUser(context);
  const rows = await context.db.all<DocumentRow>(
    `SELECT ${COLUMNS} FROM documents WHERE user_id = ? ORDER BY documents.id DESC LIMIT ?`,
    user.id,
    LIMITS.documentsPerUser,
  );
  return Response.json({ documents: rows.map((row) => summary(context, row)) });
}

/** Takes one file in a form, keeps its bytes in R2 and its passages in D1. */
export async function uploadDocument(context: ApiContext): Promise<Response> {
  const startTime = Date.now();
  const { user } = await requireUser(context);
  const file = await fileFrom(context.request);
  const name = cleanName(file.name);
  const contentType = contentTypeOf(name);
  if (file.size === 0) throw badRequest(`“${name}” is empty.`);
  if (file.size > LIMITS.uploadBytes) throw tooLarge();

  const key = new FileKeyGenerator().generateKey(user.id, "document", name);
  const publicId = crypto.randomUUID();
  // The row comes first: should anything after it fail, the file is still known and can be deleted.
  const row = await context.db.first<{ id: number }>(
    `INSERT INTO documents (public_id, user_id, name, content_type, size_bytes, r2_key, status, created_at)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'processing', ?7 WHERE (SELECT count(*) FROM documents WHERE user_id = ?2) < ?8
     RETURNING id`,
    publicId,
    user.id,
    name,
    contentType,
    file.size,
    key,
    startTime,
    LIMITS.documentsPerUser,
  );
  if (!row) {
    throw new HttpError(409, "too_many_documents", `You have ${LIMITS.documentsPerUser} documents, which is as many as fit. Delete some first.`);
  }

  const document = { rowId: row.id, publicId, userId: user.id, contentType };
  let status: DocumentSummary["status"] = "ready";
  let note: string | null = null;
  let chunkCount = 0;
  try {
    const typed = new File([file], name, { type: contentType });
    await context.files.uploadFile(key, typed, { userId: user.id, documentId: publicId });
    const outcome = await processLargeDocument(typed, document, context.db, context.semantic);
    chunkCount = outcome.chunkCount;
    if (outcome.isPartial) {
      status = "partial";
      note = `Too long to search whole: the first ${chunkCount.toLocaleString("en-US")} passages can be found.`;
    } else if (chunkCount === 0) {
      status = "partial";
      note = "There is no text in this file.";
    }
  } catch (error) {
    await removeDocument(context, user.id, { rowId: row.id, id: publicId, r2Key: key, sizeBytes: file.size });
    throw error;
  }
  const saved = await context.db.first<DocumentRow>(
    `UPDATE documents SET status = ?, note = ?, chunk_count = ? WHERE id = ? RETURNING ${COLUMNS}`,
    status,
    note,
    chunkCount,
    row.id,
  );
  if (!saved) throw notFound("document");
  await context.metrics.trackFileUpload({ userId: user.id, fileSize: file.size, fileType: contentType, processingTime: Date.now() - startTime });
  return Response.json({ document: summary(context, saved) }, { status: 201 });
}

export async function deleteDocument(context: ApiContext, { id }: { id: string }): Promise<Response> {
  const { user } = await requireUser(context);
  const row = await context.db.first<{ rowId: number; id: string; r2Key: string; sizeBytes: number }>(
    "SELECT id AS rowId, public_id AS id, r2_key AS r2Key, size_bytes AS sizeBytes FROM documents WHERE public_id = ? AND user_id = ?",
    id,
    user.id,
  );
  if (!row) throw notFound("document");
  await removeDocument(context, user.id, row);
  return new Response(null, { status: 204 });
}

/** The bytes of a file, to its owner only, with ranges and conditions. */
export async function readFile(context: ApiContext, { key }: { key: string }): Promise<Response> {
  const { user } = await requireUser(context);
  const row = await context.db.first<{ name: string; contentType: string }>(
    "SELECT name, content_type AS contentType FROM documents WHERE r2_key = ? AND user_id = ?",
    key,
    user.id,
  );
  const { request } = context;
  const object = row && (await context.files.getFileFor(key, request.headers));
  if (!row || !object) throw notFound("file");

  const headers = new Headers();
  object.writeHttpMetadata(headers);
  headers.set("etag", object.httpEtag);
  headers.set("last-modified", object.uploaded.toUTCString());
  headers.set("accept-ranges", "bytes");
  headers.set("x-content-type-options", "nosniff");
  // An uploaded page must not run on this site's origin.
  headers.set("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox");
  const isSafeInline = row.contentType !== "text/html";
  headers.set("content-type", isSafeInline && row.contentType !== "application/json" ? "text/plain" : row.contentType);
  headers.set("content-disposition", `${isSafeInline ? "inline" : "attachment"}; filename*=UTF-8''${encodeRfc5987(row.name)}`);
  if (!("body" in object)) {
    const isRead = request.headers.has("if-none-match") || request.headers.has("if-modified-since");
    return new Response(null, { status: isRead ? 304 : 412, headers });
  }
  const range = request.headers.has("range") && object.range ? rangeOf(object.range, object.size) : null;
  if (range) headers.set("content-range", `bytes ${range.start}-${range.end}/${object.size}`);
  const length = range ? range.end - range.start + 1 : object.size;
  headers.set("content-length", String(length));
  if (request.method === "HEAD") {
    await object.body.cancel();
    return new Response(null, { status: range ? 206 : 200, headers });
  }
  context.usage.add("bandwidthBytes", length);
  return new Response(object.body, { status: range ? 206 : 200, headers });
}

/** Takes away what can be found first, then the bytes, then the row that knows of them. */
async function removeDocument(
  context: ApiContext,
  userId: string,
  document: { rowId: number; id: string; r2Key: string; sizeBytes: number },
): Promise<void> {
  const stored = await context.db.first<{ count: number }>("SELECT count(*) AS count FROM document_chunks WHERE document_id = ?", document.rowId);
  await context.db.run("DELETE FROM document_chunks WHERE document_id = ?", document.rowId);
  try {
    await context.semantic?.remove(userId, document.id, stored?.count ?? 0);
  } catch (error) {
    // A vector without its passage is never shown; it only takes up room.
    if (!(error instanceof UpstreamError)) throw error;
    await context.logger.logError(error, { where: "remove vectors", documentId: document.id });
  }
  await context.files.deleteFile(document.r2Key, document.sizeBytes);
  await context.db.run("DELETE FROM documents WHERE id = ?", document.rowId);
}

async function fileFrom(request: Request): Promise<File> {
  const type = request.headers.get("content-type") ?? "";
  if (!type.toLowerCase().startsWith("multipart/form-data")) {
    throw new HttpError(415, "unsupported_media_type", "Send the file as a form, in a field named “file”.");
  }
  const maximum = LIMITS.uploadBytes + FORM_OVERHEAD_BYTES;
  const length = request.headers.get("content-length");
  if (Number(length ?? 0) > maximum) throw tooLarge();
  let size = 0;
  let form: FormData;
  try {
    if (length === null && request.body) {
      // Nobody said how much will come: counted as it does, so that memory has a bound all the same.
      const counted = request.body.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            size += chunk.byteLength;
            if (size > maximum) controller.error(new Error("too large"));
            else controller.enqueue(chunk);
          },
        }),
      );
      form = await new Response(counted, { headers: { "content-type": type } }).formData();
    } else {
      form = await request.formData();
    }
  } catch {
    throw size > maximum ? tooLarge() : badRequest("The upload did not arrive whole. Try again.");
  }
  const file = form.get("file") as unknown;
  if (!(file instanceof File)) throw badRequest("There is no file in the form.");
  return file;
}

function cleanName(name: string): string {
  const base = (name.split(/[/\\]/).pop() ?? "").toWellFormed().normalize("NFC").replace(/[\u0000-\u001f\u007f]/g, "").trim();
  if (base === "") throw badRequest("The file has no name.");
  if (base.length > 200) throw badRequest("The file’s name is longer than 200 characters.");
  return base;
}

const tooLarge = (): HttpError => new HttpError(413, "too_large", `Files may be up to ${LIMITS.uploadBytes / 1024 / 1024} MB.`);

function summary(context: ApiContext, { r2Key, ...row }: DocumentRow): DocumentSummary {
  return { ...row, fileUrl: context.files.fileUrl(r2Key) };
}

function rangeOf(range: R2Range, size: number): { start: number; end: number } {
  if ("suffix" in range) return { start: Math.max(0, size - range.suffix), end: size - 1 };
  const start = range.offset ?? 0;
  return { start, end: Math.min(size, start + (range.length ?? size - start)) - 1 };
}

function encodeRfc5987(name: string): string {
  return encodeURIComponent(name).replace(/['()*!]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
