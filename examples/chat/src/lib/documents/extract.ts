import { HttpError } from "../http/errors";

/** The text of the kinds of documents that can be searched. */

const TYPES: Record<string, string> = {
  txt: "text/plain",
  text: "text/plain",
  log: "text/plain",
  md: "text/markdown",
  markdown: "text/markdown",
  html: "text/html",
  htm: "text/html",
  json: "application/json",
  csv: "text/csv",
};

export const FILE_EXTENSIONS = Object.keys(TYPES).map((extension) => `.${extension}`);

/** The type that a file's name promises; what the browser claims is not asked. */
export function contentTypeOf(name: string): string {
  const extension = /\.([A-Za-z0-9]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
  const type = Object.hasOwn(TYPES, extension) ? TYPES[extension] : undefined;
  if (type === undefined) {
    throw new HttpError(
      415,
      "unsupported_file_type",
      `“${name}” cannot be read. Text, Markdown, HTML, JSON and CSV files can.`,
    );
  }
  return type;
}

export function extractText(bytes: ArrayBuffer, contentType: string): string {
  const text = decode(bytes);
  if (text.includes("\u0000")) {
    throw new HttpError(415, "not_text", "This file does not contain text, whatever its name says.");
  }
  const normal = text
    .replace(/\r\n?/g, "\n")
    .normalize("NFC")
    // Letters, digits and kana of another width are the same ones to a reader and to a search.
    .replace(/[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f]+/g, (run) => run.normalize("NFKC"));
  switch (contentType) {
    case "text/html":
      return textFromHtml(normal);
    case "application/json":
      return textFromJson(normal);
    case "text/csv":
      return textFromCsv(normal);
    default:
      return normal;
  }
}

/** UTF-8, UTF-16 with a mark, or one of the encodings in which older Japanese files come. */
function decode(bytes: ArrayBuffer): string {
  const head = new Uint8Array(bytes.slice(0, 2));
  if (head[0] === 0xff && head[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (head[0] === 0xfe && head[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  for (const encoding of ["utf-8", "shift_jis", "euc-jp"]) {
    try {
      return new TextDecoder(encoding, { fatal: true, ignoreBOM: false }).decode(bytes);
    } catch {
      // Not this one.
    }
  }
  throw new HttpError(415, "unknown_encoding", "The text in this file is in an encoding that is not known here. Save it as UTF-8.");
}

/** Elements whose content is not part of what a reader sees. */
const UNREAD = new Set(["script", "style", "noscript", "template", "svg"]);

const BREAKS = new Set(
  "p div br li ul ol h1 h2 h3 h4 h5 h6 tr table section article header footer main nav blockquote pre dt dd title".split(" "),
);

/** One pass from left to right, so that no page, however broken, takes more than its length in time. */
function textFromHtml(html: string): string {
  const parts: string[] = [];
  let at = 0;
  while (at < html.length) {
    const open = html.indexOf("<", at);
    if (open < 0) {
      parts.push(html.slice(at));
      break;
    }
    parts.push(html.slice(at, open));
    const isComment = html.startsWith("<!--", open);
    const close = html.indexOf(isComment ? "-->" : ">", open);
    // Never closed: the rest is no text.
    if (close < 0) break;
    at = close + (isComment ? 3 : 1);
    const [, slash, tag = ""] = /^<(\/?)([a-z][a-z0-9]*)/i.exec(html.slice(open, open + 16)) ?? [];
    const name = tag.toLowerCase();
    if (BREAKS.has(name)) parts.push("\u0001");
    else if (name === "td" || name === "th") parts.push(" ");
    else if (UNREAD.has(name) && slash === "") {
      const end = new RegExp(`</${name}`, "gi");
      end.lastIndex = at;
      at = end.exec(html)?.index ?? html.length;
    }
  }
  // Line ends of the source are spaces; only elements break lines.
  return tidy(decodeEntities(parts.join("").replace(/[ \t\n]+/g, " ").replaceAll("\u0001", "\n")));
}

const ENTITIES: Record<string, string> = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: " ", hellip: "…", mdash: "—", ndash: "–",
  lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", copy: "©", reg: "®", trade: "™", yen: "¥", euro: "€", times: "×", middot: "·", bull: "•",
};

function decodeEntities(text: string): string {
  return text.replace(/&(#x[0-9a-f]{1,6}|#[0-9]{1,7}|[a-z]{1,10});/gi, (whole, name: string) => {
    if (name.startsWith("#")) {
      const code = /^#x/i.test(name) ? Number.parseInt(name.slice(2), 16) : Number.parseInt(name.slice(1), 10);
      const isCharacter = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
      return isCharacter ? String.fromCodePoint(code) : whole;
    }
    return (Object.hasOwn(ENTITIES, name.toLowerCase()) && ENTITIES[name.toLowerCase()]) || whole;
  });
}

/** As much of a value's path as stands before it: a long key must not be repeated a million times. */
const PATH_CHARACTERS = 200;

/** One line for each value, with its path before it: `address.city: Kyoto`. */
function textFromJson(json: string): string {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new HttpError(422, "bad_json", "This file is not valid JSON.");
  }
  const lines: string[] = [];
  const stack: [string, unknown][] = [["", value]];
  while (stack.length > 0) {
    const [path, item] = stack.pop() as [string, unknown];
    if (typeof item === "object" && item !== null) {
      const children = Array.isArray(item)
        ? item.map((child, index): [string, unknown] => [path === "" ? `${index + 1}` : `${path} ${index + 1}`, child])
        : Object.entries(item).map(([key, child]): [string, unknown] => [path === "" ? key : `${path}.${key}`, child]);
      for (const [childPath, child] of children.reverse()) stack.push([childPath.slice(-PATH_CHARACTERS), child]);
    } else {
      lines.push(path === "" ? String(item) : `${path}: ${String(item)}`);
    }
  }
  return lines.join("\n");
}

/** One line for each row, each cell with its column's name: `Name: Aki; City: Kyoto`. */
function textFromCsv(csv: string): string {
  const [header, ...rows] = parseCsv(csv);
  if (!header) return "";
  if (rows.length === 0) return header.join("; ");
  return rows
    .map((row) =>
      row
        .map((cell, index) => [header[index]?.trim() ?? "", cell.trim()] as const)
        .filter(([, cell]) => cell !== "")
        .map(([name, cell]) => (name === "" ? cell : `${name}: ${cell}`))
        .join("; "),
    )
    .filter((line) => line !== "")
    .join("\n");
}

function parseCsv(csv: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < csv.length; i += 1) {
    const character = csv.charAt(i);
    if (quoted) {
      if (character !== '"') cell += character;
      else if (csv[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === ",") {
      row.push(cell);
      cell = "";
    } else if (character === "\n") {
      row.push(cell);
      rows.push(row);
      row = [];
      cell = "";
    } else cell += character;
  }
  if (cell !== "" || row.length > 0) rows.push([...row, cell]);
  return rows.filter((cells) => cells.some((value) => value.trim() !== ""));
}

function tidy(text: string): string {
  return text
    .split("\n")
    .map((line) => line.replace(/[ \t\u00a0]+/g, " ").trim())
    .filter((line, index, lines) => line !== "" || lines[index - 1] !== "")
    .join("\n")
    .trim();
}
