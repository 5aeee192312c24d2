/** Small helpers on text and bytes that more than one library needs. */

export async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** 256 random bits, in characters that a cookie and a URL take. */
export function randomToken(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return base64UrlEncode(bytes);
}

export function base64UrlEncode(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** Throws on anything that is not base64url. */
export function base64UrlDecode(text: string): Uint8Array {
  const binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** Cuts at `length` UTF-16 units without splitting a character in two. */
export function truncate(text: string, length: number): string {
  if (text.length <= length) return text;
  let end = length;
  const last = text.charCodeAt(end - 1);
  if (last >= 0xd800 && last <= 0xdbff) end -= 1;
  return text.slice(0, end);
}

export function hasJapanese(text: string): boolean {
  return /[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]/.test(text);
}

/**
 * Sentences with their end marks, line by line. A dot ends one only before a space ("3.5" and
 * "example.com" go on), a Japanese full stop always.
 */
export function splitSentences(text: string): string[] {
  const sentence = /(?:[^.!?。！？]|[.!?](?=[^\s.!?」』）)"']))+(?:[.!?]+|[。！？]+|$)[」』）)"']*/g;
  return text
    .split(/\n+/)
    .flatMap((line) => line.match(sentence) ?? [])
    .map((part) => part.trim())
    .filter((part) => part !== "");
}
