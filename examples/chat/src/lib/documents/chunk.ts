import { splitSentences } from "../text";

/** How long a passage gets before the next one begins, in characters. */
export const PASSAGE_CHARACTERS = 1200;

/**
 * Cuts a large text into pieces of at most `maxSize` bytes, each at the end of a line where there
 * is one, and never inside a character. Joined again they are the text.
 */
export async function* splitDocumentIntoChunks(file: Blob, options: { maxSize: number }): AsyncGenerator<string> {
  let start = 0;
  while (start < file.size) {
    const bytes = new Uint8Array(await file.slice(start, start + options.maxSize).arrayBuffer());
    const end = start + bytes.length >= file.size ? bytes.length : cutPoint(bytes);
    yield new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes.subarray(0, end));
    start += end;
  }
}

function cutPoint(bytes: Uint8Array): number {
  const newline = bytes.lastIndexOf(0x0a);
  if (newline >= 0) return newline + 1;
  // No line ends here: step back over the bytes of a character that is only begun.
  let end = bytes.length;
  while (end > 0 && ((bytes[end - 1] ?? 0) & 0xc0) === 0x80) end -= 1;
  const lead = bytes[end - 1] ?? 0;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
  const isWhole = end - 1 + length === bytes.length;
  const cut = isWhole ? bytes.length : end - 1;
  return cut > 0 ? cut : bytes.length;
}

/**
 * Passages for search: paragraphs gathered up to the length of a passage; a paragraph that is
 * longer is cut between sentences, a sentence that is longer between characters. A Markdown
 * heading begins a passage of its own, so that it stays with what it names.
 */
export function splitIntoPassages(text: string): string[] {
  const passages: string[] = [];
  let current = "";
  const flush = (): void => {
    if (current.trim() !== "") passages.push(current.trim());
    current = "";
  };
  for (const paragraph of text.split(/\n[ \t]*\n+|\n(?=#{1,6} )/)) {
    const isHeading = /^#{1,6} /.test(paragraph);
    if (isHeading || current.length + 2 + paragraph.length > PASSAGE_CHARACTERS) flush();
    if (paragraph.length <= PASSAGE_CHARACTERS) {
      current += current === "" ? paragraph : `\n\n${paragraph}`;
      continue;
    }
    for (const piece of pieces(paragraph)) {
      if (current.length + 1 + piece.length > PASSAGE_CHARACTERS) flush();
      current += current === "" ? piece : `\n${piece}`;
    }
    flush();
  }
  flush();
  return passages;
}

function pieces(paragraph: string): string[] {
  return paragraph
    .split("\n")
    .flatMap((line) => (line.length <= PASSAGE_CHARACTERS ? [line] : splitSentences(line)))
    .flatMap((sentence) => {
      if (sentence.length <= PASSAGE_CHARACTERS) return [sentence];
      const characters = Array.from(sentence);
      const parts: string[] = [];
      for (let i = 0; i < characters.length; i += PASSAGE_CHARACTERS / 2) {
        parts.push(characters.slice(i, i + PASSAGE_CHARACTERS / 2).join(""));
      }
      return parts;
    });
}
