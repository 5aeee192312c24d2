import { LIMITS } from "../env";
import { badRequest, HttpError } from "./errors";

/** The JSON object in a request's body, no larger than `LIMITS.jsonBodyBytes`. */
export async function readJson(request: Request): Promise<Record<string, unknown>> {
  const type = request.headers.get("content-type") ?? "";
  if (!type.toLowerCase().startsWith("application/json")) {
    throw new HttpError(415, "unsupported_media_type", "Send JSON, with content-type application/json.");
  }
  const text = await readBounded(request, LIMITS.jsonBodyBytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw badRequest("The request is not valid JSON.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw badRequest("Send a JSON object.");
  return value as Record<string, unknown>;
}

/** A trimmed string of 1 to `maximum` characters. */
export function requireText(body: Record<string, unknown>, field: string, label: string, maximum: number): string {
  const value = body[field];
  if (typeof value !== "string") throw badRequest(`${label} is missing.`);
  // Unpaired halves of a character would not survive being stored.
  const text = value.toWellFormed().trim();
  if (text === "") throw badRequest(`${label} is empty.`);
  if (text.length > maximum) throw badRequest(`${label} is longer than ${maximum.toLocaleString("en-US")} characters.`);
  return text;
}

export function requireEmail(body: Record<string, unknown>): string {
  const email = requireText(body, "email", "The e-mail address", LIMITS.emailCharacters).toLowerCase();
  if (!/^[^\s@<>(),;:"[\]\\]+@[^\s@<>(),;:"[\]\\]+\.[^\s@<>(),;:"[\]\\.]+$/.test(email)) {
    throw badRequest("That does not look like an e-mail address.");
  }
  return email;
}

/** A whole number within bounds from the query string, or `fallback` when it is absent. */
export function queryInteger(url: URL, name: string, fallback: number, minimum: number, maximum: number): number {
  const text = url.searchParams.get(name);
  if (text === null) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < minimum || value > maximum) {
    throw badRequest(`${name} must be a whole number from ${minimum} to ${maximum}.`);
  }
  return value;
}

async function readBounded(request: Request, maximum: number): Promise<string> {
  const tooLarge = new HttpError(413, "too_large", `The request is larger than ${maximum / 1024} KB.`);
  if (Number(request.headers.get("content-length") ?? 0) > maximum) throw tooLarge;
  if (!request.body) return "";
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.byteLength;
    if (size > maximum) {
      await reader.cancel();
      throw tooLarge;
    }
    text += decoder.decode(value, { stream: true });
  }
}
