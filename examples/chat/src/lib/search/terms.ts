import type { SqlValue } from "../db/d1";

/**
 * From what a person types to what the trigram index can find.
 *
 * The index knows runs of three characters and more; anything shorter is compared with LIKE.
 * English words lose their plural s, so that "teas" finds "tea". Japanese is written without
 * spaces: a question is cut where the script changes, and particles and endings, which are in
 * hiragana, are left out where there is anything else to look for.
 */

const STOP_WORDS = new Set(
  ("a an and any are as at be been but by can could did do does for from had has have how i if in is it its may me " +
    "my no not of on or our please shall should so tell than that the their them then there these they this to us was " +
    "we were what when where which who whom whose why will with would you your about say says").split(" "),
);

/** The words of a query, in the order in which they were typed; none when it has no letters. */
export function searchTerms(query: string): string[] {
  const words = normalize(query).match(/[\p{L}\p{N}\p{M}ー]+/gu) ?? [];
  return unique(words).slice(0, 16);
}

/** The words of a question that say what it is about. */
export function questionTerms(question: string): string[] {
  const terms: string[] = [];
  const kana: string[] = [];
  const skipped: string[] = [];
  for (const [run] of normalize(question).matchAll(
    /[\p{Script=Han}々〆]+|[\p{Script=Katakana}ー]+|\p{Script=Hiragana}+|[\p{Script=Latin}\p{N}\p{M}]+|[^\P{L}\p{Script=Han}\p{Script=Katakana}\p{Script=Hiragana}\p{Script=Latin}]+/gu,
  )) {
    if (/^\p{Script=Hiragana}/u.test(run)) {
      if (run.length >= 3) kana.push(run);
    } else if (/^[\p{Script=Latin}\p{N}]/u.test(run)) {
      if (STOP_WORDS.has(run)) skipped.push(run);
      else terms.push(singular(run));
    } else {
      terms.push(run);
      // A long compound is rarely written twice the same way: its parts count too.
      if (/^\p{Script=Han}/u.test(run) && run.length >= 4) {
        for (let i = 0; i + 2 <= run.length; i += 2) terms.push(run.slice(i, i + 2));
      }
    }
  }
  // In "何が書いて…", as in "tell me", these only ask.
  const telling = terms.filter((term) => !/^[何書教言聞]$/.test(term));
  const chosen = telling.length > 0 ? telling : terms.length > 0 ? terms : kana.length > 0 ? kana : skipped;
  return unique(chosen).slice(0, 16);
}

export interface TermCondition {
  sql: string;
  params: SqlValue[];
  /** Whether the condition reads the FTS table, so that its rank can order the rows. */
  usesIndex: boolean;
}

/**
 * The condition that a text contains all (`and`) or any (`or`) of the terms. `fts` and `content`
 * are written into the SQL and come from this code, the terms are bound.
 */
export function termCondition(terms: string[], fts: string, content: string, mode: "and" | "or"): TermCondition {
  const long = terms.filter((term) => Array.from(term).length >= 3);
  const short = terms.filter((term) => Array.from(term).length < 3);
  const parts: string[] = [];
  const params: SqlValue[] = [];
  // MATCH has to stand alone for the planner: with "or" the short terms only widen the search
  // when there is no long one.
  if (long.length > 0) {
    parts.push(`${fts} MATCH ?`);
    params.push(long.map(quoteForMatch).join(mode === "and" ? " AND " : " OR "));
  }
  if (mode === "and" || long.length === 0) {
    const likes = short.map((term) => {
      params.push(`%${escapeLike(term)}%`);
      return `${content} LIKE ? ESCAPE '\\'`;
    });
    if (likes.length > 0) parts.push(`(${likes.join(mode === "and" ? " AND " : " OR ")})`);
  }
  return { sql: parts.join(" AND "), params, usesIndex: long.length > 0 };
}

export function quoteForMatch(term: string): string {
  return `"${term.replace(/"/g, '""')}"`;
}

export function escapeLike(term: string): string {
  return term.replace(/[\\%_]/g, (character) => `\\${character}`);
}

/** A stretch of `content` around the first of the terms, and where the terms are in it. */
export function snippetAround(text: string, terms: string[], length = 180): { snippet: string; highlights: [number, number][] } {
  const content = withoutMarkup(text);
  // Lower case can be longer or shorter in a few scripts; then positions would lie, and none are given.
  const folded = content.toLowerCase();
  const isAligned = folded.length === content.length;
  const first = isAligned ? Math.min(...terms.map((term) => folded.indexOf(term)).map((at) => (at < 0 ? Infinity : at))) : Infinity;
  let start = first === Infinity ? 0 : Math.max(0, first - Math.floor(length / 4));
  // Begin at a word where one is near.
  const space = content.slice(start, start + 20).search(/[\s。、]/);
  if (start > 0 && space >= 0 && start + space < first) start += space + 1;
  const end = Math.min(content.length, start + length);
  const body = content.slice(start, end).replace(/\s/g, " ").toWellFormed();
  const prefix = start > 0 ? "…" : "";
  const snippet = `${prefix}${body}${end < content.length ? "…" : ""}`;
  if (!isAligned) return { snippet, highlights: [] };

  const ranges: [number, number][] = [];
  const foldedBody = body.toLowerCase();
  for (const term of terms) {
    if (term === "") continue;
    for (let at = foldedBody.indexOf(term); at >= 0; at = foldedBody.indexOf(term, at + term.length)) {
      ranges.push([at + prefix.length, at + prefix.length + term.length]);
    }
  }
  ranges.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const highlights: [number, number][] = [];
  for (const [from, to] of ranges) {
    const last = highlights.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else highlights.push([from, to]);
  }
  return { snippet, highlights };
}

/** Markdown's heading marks and emphasis say nothing in one line of text: `## Bath` becomes `Bath ·`. */
function withoutMarkup(text: string): string {
  return text
    .replace(/^#{1,6}[ \t]+(.+?)[ \t#]*\n+(?=\S)/gm, "$1 · ")
    .replace(/^#{1,6}[ \t]+/gm, "")
    .replace(/\*\*([^*\n]+)\*\*/g, "$1");
}

function normalize(text: string): string {
  return text.normalize("NFKC").toLowerCase();
}

function singular(word: string): string {
  return word.length > 3 && /[^su]s$/.test(word) ? word.slice(0, -1) : word;
}

function unique(words: string[]): string[] {
  return [...new Set(words)];
}
