import type { Source } from "../../shared/types";
import type { Passage } from "../search/keyword";
import { questionTerms, snippetAround } from "../search/terms";
import { hasJapanese, splitSentences } from "../text";

/** Answers made of the user's own sentences, for when no language model is configured. */

export const RETRIEVAL_MODEL = "retrieval";

const SENTENCES_AT_MOST = 5;

/** The documents behind an answer, numbered from 1 in the order of their first passage. */
export function sourcesOf(passages: Passage[], question: string, fileUrl: (key: string) => string): Source[] {
  const terms = questionTerms(question);
  const sources = new Map<string, Source>();
  for (const passage of passages) {
    if (sources.has(passage.documentId)) continue;
    sources.set(passage.documentId, {
      number: sources.size + 1,
      documentId: passage.documentId,
      documentName: passage.documentName,
      fileUrl: fileUrl(passage.r2Key),
      excerpt: snippetAround(passage.content, terms, 220).snippet,
    });
  }
  return [...sources.values()];
}

interface Candidate {
  text: string;
  score: number;
  passageIndex: number;
  sentenceIndex: number;
  source: number;
}

/** The answer, sentence by sentence. Only what `passages` says, each with its source's number. */
export function composeAnswer(question: string, passages: Passage[], sources: Source[], documentCount: number): string[] {
  const isJapanese = hasJapanese(question);
  if (documentCount === 0) {
    return isJapanese
      ? ["まだ文書がありません。", "「Documents」から文書を追加すると、その内容からお答えします。", "（言語モデルは設定されていません。）"]
      : ["You have no documents yet. ", "Add one under Documents, and I will answer from what it says. ", "No language model is configured here, so your documents are all I know."];
  }
  const chosen = chooseSentences(question, passages, sources);
  if (chosen.length === 0) {
    return isJapanese
      ? ["あなたの文書には、これについての記述が見つかりませんでした。", "別の言葉で尋ねるか、関連する文書を追加してください。", "（言語モデルは設定されていないため、文書の内容だけからお答えしています。）"]
      : ["I found nothing about this in your documents. ", "Try other words, or add a document that covers it. ", "No language model is configured here, so your documents are all I know."];
  }
  const opening = isJapanese
    ? "言語モデルが設定されていないため、あなたの文書から該当する部分を引用します。\n\n"
    : "No language model is configured, so here is what your documents say:\n\n";
  return [opening, ...chosen.map((sentence) => `- ${sentence.text} [${sentence.source}]\n`)];
}

function chooseSentences(question: string, passages: Passage[], sources: Source[]): Candidate[] {
  const terms = questionTerms(question);
  const candidates: (Candidate & { found: string[] })[] = [];
  const frequency = new Map<string, number>();
  for (const [passageIndex, passage] of passages.entries()) {
    const source = sources.find((item) => item.documentId === passage.documentId)?.number;
    if (source === undefined) continue;
    let heading = "";
    const name = passage.documentName.toLowerCase();
    const isNamed = terms.some((term) => name.includes(term));
    for (const [sentenceIndex, raw] of splitSentences(passage.content).entries()) {
      if (/^#{1,6} /.test(raw)) heading = raw.toLowerCase();
      const text = raw.replace(/^(#{1,6}|[-*+>]|\d+[.)])\s+/, "").trim();
      const folded = text.toLowerCase();
      const found = terms.filter((term) => folded.includes(term));
      for (const term of found) frequency.set(term, (frequency.get(term) ?? 0) + 1);
      // What stands under a heading that speaks of the matter counts a little by that alone.
      const underHeading = terms.filter((term) => !found.includes(term) && heading.includes(term)).length;
      if (text.length < 4 || /^#{1,6} /.test(raw)) continue;
      if (found.length === 0 && underHeading === 0 && !isNamed) continue;
      candidates.push({ text, score: underHeading * 0.4 + (isNamed ? 0.1 : 0), passageIndex, sentenceIndex, source, found });
    }
  }
  for (const candidate of candidates) {
    for (const term of candidate.found) candidate.score += 1 / Math.sqrt(frequency.get(term) ?? 1) + 0.5;
    // Of two that say as much, the better ranked passage's goes first.
    candidate.score *= 1 - candidate.passageIndex * 0.03;
  }
  candidates.sort((a, b) => b.score - a.score);
  const threshold = (candidates[0]?.score ?? 0) * 0.5;
  const seen = new Set<string>();
  return candidates
    .filter((candidate) => {
      if (candidate.score < threshold || seen.has(candidate.text)) return false;
      seen.add(candidate.text);
      return true;
    })
    .slice(0, SENTENCES_AT_MOST)
    .sort((a, b) => a.passageIndex - b.passageIndex || a.sentenceIndex - b.sentenceIndex);
}

/** Sends the sentences at the pace of someone reading them out quickly, so that they can be followed. */
export async function* paced(sentences: string[], signal: AbortSignal): AsyncGenerator<string> {
  for (const [index, sentence] of sentences.entries()) {
    if (signal.aborted) return;
    if (index > 0) await new Promise((resolve) => setTimeout(resolve, 120));
    yield sentence;
  }
}
