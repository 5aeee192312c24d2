import { Fragment, type ReactNode } from "react";
import type { Source } from "../shared/types";

/**
 * The Markdown that answers use: headings, lists, code, quotes, tables' rows as text, bold, emphasis,
 * links and citations. It builds elements, never HTML, so nothing in an answer can act in the page.
 */
export function Markdown({ text, sources }: { text: string; sources: Source[] }): ReactNode {
  return <>{blocksOf(text).map((block, index) => renderBlock(block, index, sources))}</>;
}

type Block =
  | { kind: "code"; text: string }
  | { kind: "heading"; level: number; text: string }
  | { kind: "list"; isOrdered: boolean; start: number; items: string[] }
  | { kind: "quote"; text: string }
  | { kind: "paragraph"; text: string };

function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  let i = 0;
  while (i < lines.length) {
    const line = lines[i] ?? "";
    const item = /^\s{0,3}(?:([-*+])|(\d{1,4})[.)])\s+(.*)$/.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (/^\s*```/.test(line)) {
      const body: string[] = [];
      for (i += 1; i < lines.length && !/^\s*```/.test(lines[i] ?? ""); i += 1) body.push(lines[i] ?? "");
      i += 1;
      blocks.push({ kind: "code", text: body.join("\n") });
    } else if (heading) {
      blocks.push({ kind: "heading", level: heading[1]?.length ?? 1, text: heading[2] ?? "" });
      i += 1;
    } else if (item) {
      const isOrdered = item[2] !== undefined;
      const items: string[] = [];
      for (; i < lines.length; i += 1) {
        const next = /^\s{0,3}(?:([-*+])|(\d{1,4})[.)])\s+(.*)$/.exec(lines[i] ?? "");
        if (next && (next[2] !== undefined) === isOrdered) items.push(next[3] ?? "");
        else if (/^\s{2,}\S/.test(lines[i] ?? "") && items.length > 0) items[items.length - 1] += `\n${(lines[i] ?? "").trim()}`;
        else break;
      }
      blocks.push({ kind: "list", isOrdered, start: Number(item[2] ?? 1), items });
    } else if (/^>\s?/.test(line)) {
      const body: string[] = [];
      for (; i < lines.length && /^>\s?/.test(lines[i] ?? ""); i += 1) body.push((lines[i] ?? "").replace(/^>\s?/, ""));
      blocks.push({ kind: "quote", text: body.join("\n") });
    } else if (line.trim() === "") {
      i += 1;
    } else {
      const body: string[] = [];
      for (; i < lines.length && !/^(\s*$|\s*```|#{1,6}\s|>\s?|\s{0,3}([-*+]|\d{1,4}[.)])\s)/.test(lines[i] ?? ""); i += 1) body.push(lines[i] ?? "");
      // A line that looks like the start of a block but is none.
      if (body.length === 0) {
        body.push(line);
        i += 1;
      }
      blocks.push({ kind: "paragraph", text: body.join("\n") });
    }
  }
  return blocks;
}

function renderBlock(block: Block, key: number, sources: Source[]): ReactNode {
  switch (block.kind) {
    case "code":
      return (
        <pre key={key} tabIndex={0}>
          <code>{block.text}</code>
        </pre>
      );
    case "heading": {
      const Heading = block.level <= 2 ? "h3" : "h4";
      return <Heading key={key}>{inline(block.text, sources)}</Heading>;
    }
    case "list": {
      const items = block.items.map((item, index) => <li key={index}>{inline(item, sources)}</li>);
      return block.isOrdered ? (
        <ol key={key} start={block.start}>
          {items}
        </ol>
      ) : (
        <ul key={key}>{items}</ul>
      );
    }
    case "quote":
      return <blockquote key={key}>{inline(block.text, sources)}</blockquote>;
    case "paragraph":
      return <p key={key}>{inline(block.text, sources)}</p>;
  }
}

const INLINE = /`([^`\n]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*\n]*)\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|\[(\d{1,2})\]|\n/g;

function inline(text: string, sources: Source[]): ReactNode {
  const nodes: ReactNode[] = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, bold, emphasis, label, url, number] = match;
    const before = text.slice(last, match.index);
    // A citation stays on the line of what it proves.
    nodes.push(number === undefined ? before : before.replace(/ $/, "\u00a0"));
    last = match.index + whole.length;
    const key = match.index;
    if (code !== undefined) nodes.push(<code key={key}>{code}</code>);
    else if (bold !== undefined) nodes.push(<strong key={key}>{bold}</strong>);
    else if (emphasis !== undefined) nodes.push(<em key={key}>{emphasis}</em>);
    else if (url !== undefined)
      nodes.push(
        <a key={key} href={url} target="_blank" rel="noreferrer">
          {label}
        </a>,
      );
    else if (number !== undefined) {
      const source = sources.find((item) => item.number === Number(number));
      nodes.push(
        source ? (
          <a key={key} className="cite" href={source.fileUrl} target="_blank" rel="noreferrer" title={source.documentName} aria-label={`Source ${number}: ${source.documentName}`}>
            {number}
          </a>
        ) : (
          whole
        ),
      );
    } else nodes.push(<br key={key} />);
  }
  nodes.push(text.slice(last));
  return nodes.map((node, index) => (typeof node === "string" ? <Fragment key={`t${index}`}>{node}</Fragment> : node));
}
