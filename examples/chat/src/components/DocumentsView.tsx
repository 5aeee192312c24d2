"use client";

import Link from "next/link";
import { type DragEvent, type FormEvent, type ReactNode, useRef, useState } from "react";
import { api, RequestFailure } from "../client/api";
import { useStore } from "../client/store";
import type { DocumentSummary, SearchHit, SearchResponse, SearchType } from "../shared/types";
import { useConfirm } from "./Confirm";
import { Icon } from "./icons";
import { UploadList } from "./UploadList";

export function DocumentsView(): ReactNode {
  const { documents, uploads } = useStore();
  return (
    <div className="page">
      <header className="page-head">
        <h1>Documents</h1>
        <p className="quiet">What you add here can be searched, and answers are drawn from it. Only you can see it.</p>
      </header>
      <Search />
      <section aria-labelledby="library-title">
        <h2 id="library-title">Your library</h2>
        <DropZone />
        {uploads.length > 0 && <UploadList />}
        {documents.length > 0 && (
          <ul className="documents" data-testid="document-list">
            {documents.map((document) => (
              <DocumentItem key={document.id} document={document} />
            ))}
          </ul>
        )}
      </section>
    </div>
  );
}

const SEARCH_TYPES: [SearchType, string][] = [
  ["keyword", "By words"],
  ["semantic", "By meaning"],
  ["hybrid", "Both"],
];

function Search(): ReactNode {
  const { config, report } = useStore();
  const [type, setType] = useState<SearchType>("keyword");
  const [answer, setAnswer] = useState<SearchResponse | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setIsBusy] = useState(false);
  const latest = useRef(0);

  const submit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const query = String(new FormData(event.currentTarget).get("q")).trim();
    if (query === "") {
      setAnswer(null);
      return;
    }
    const turn = ++latest.current;
    setIsBusy(true);
    setError(null);
    api
      .search(query, type)
      .then(
        (response) => {
          if (turn === latest.current) setAnswer(response);
        },
        (failure: unknown) => {
          if (failure instanceof RequestFailure && failure.status === 401) report(failure);
          else setError(failure instanceof RequestFailure ? failure.message : "The search failed. Try again.");
        },
      )
      .finally(() => setIsBusy(false));
  };

  return (
    <section aria-labelledby="search-title" className="search">
      <h2 id="search-title" className="visually-hidden">
        Search
      </h2>
      <form role="search" onSubmit={submit}>
        <div className="search-field">
          <Icon name="search" />
          <input
            type="search"
            name="q"
            maxLength={200}
            placeholder="Search"
            aria-label="Search documents and conversations"
            data-testid="search-input"
            onChange={(event) => event.currentTarget.value === "" && setAnswer(null)}
          />
          <button className="button button-primary" disabled={isBusy} data-testid="search-submit">
            Search
          </button>
        </div>
        <fieldset className="segments" aria-describedby={config.search.semantic ? undefined : "semantic-missing"}>
          <legend className="visually-hidden">How to search</legend>
          {SEARCH_TYPES.map(([value, label]) => (
            <label key={value}>
              <input
                type="radio"
                name="type"
                value={value}
                checked={type === value}
                disabled={value !== "keyword" && !config.search.semantic}
                onChange={() => setType(value)}
              />
              <span>{label}</span>
            </label>
          ))}
        </fieldset>
        {!config.search.semantic && (
          <p className="hint" id="semantic-missing">
            {config.search.semanticMissing}
          </p>
        )}
      </form>
      {error && (
        <p className="alert" role="alert">
          {error}
        </p>
      )}
      <div aria-live="polite">
        {answer && (
          <div className="results" data-testid="search-results">
            <p className="quiet">
              {answer.hits.length === 0
                ? `Nothing found for “${answer.query}”.`
                : `${answer.hits.length} ${answer.hits.length === 1 ? "result" : "results"} for “${answer.query}”`}
            </p>
            <ul>
              {answer.hits.map((hit, index) => (
                <Hit key={index} hit={hit} />
              ))}
            </ul>
          </div>
        )}
      </div>
    </section>
  );
}

function Hit({ hit }: { hit: SearchHit }): ReactNode {
  return (
    <li className="hit" data-testid="search-hit">
      {hit.kind === "document" ? (
        <a href={hit.fileUrl ?? "#"} target="_blank" rel="noreferrer">
          <Icon name="document" size={17} /> {hit.title}
        </a>
      ) : (
        <Link href={`/?c=${hit.id}`}>
          <Icon name="chat" size={17} /> {hit.title}
        </Link>
      )}
      <p>{marked(hit)}</p>
    </li>
  );
}

function marked({ snippet, highlights }: SearchHit): ReactNode {
  const nodes: ReactNode[] = [];
  let last = 0;
  for (const [start, end] of highlights) {
    nodes.push(snippet.slice(last, start), <mark key={start}>{snippet.slice(start, end)}</mark>);
    last = end;
  }
  nodes.push(snippet.slice(last));
  return nodes;
}

function DropZone(): ReactNode {
  const { config, addFiles } = useStore();
  const [isOver, setIsOver] = useState(false);
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setIsOver(false);
    addFiles(Array.from(event.dataTransfer.files));
  };
  return (
    <label
      className={isOver ? "dropzone is-over" : "dropzone"}
      onDragOver={(event) => {
        event.preventDefault();
        setIsOver(true);
      }}
      onDragLeave={() => setIsOver(false)}
      onDrop={drop}
    >
      <input
        type="file"
        multiple
        className="visually-hidden"
        accept={config.limits.fileTypes.join(",")}
        data-testid="file-input"
        onChange={(event) => {
          addFiles(Array.from(event.currentTarget.files ?? []));
          event.currentTarget.value = "";
        }}
      />
      <Icon name="upload" size={24} />
      <span>
        <strong>Choose files</strong> <span className="only-pointer">or drop them here</span>
      </span>
      <small>Text, Markdown, HTML, JSON or CSV, up to {config.limits.uploadBytes / 1024 / 1024}&nbsp;MB&nbsp;each</small>
    </label>
  );
}

function DocumentItem({ document }: { document: DocumentSummary }): ReactNode {
  const { removeDocument, report } = useStore();
  const { confirm, dialog } = useConfirm();
  const [isBusy, setIsBusy] = useState(false);

  const remove = async (): Promise<void> => {
    if (!(await confirm(`Delete “${document.name}”?`, "The file and everything read from it are deleted for good. Answers that quote it stay.", "Delete"))) return;
    setIsBusy(true);
    try {
      await removeDocument(document.id);
    } catch (error) {
      setIsBusy(false);
      report(error);
    }
  };

  return (
    <li className="document" data-testid="document">
      <span className="document-type" aria-hidden="true">
        {document.name.split(".").pop()}
      </span>
      <div className="document-text">
        <a href={document.fileUrl} target="_blank" rel="noreferrer">
          {document.name}
        </a>
        <small>
          {size(document.sizeBytes)} · {document.chunkCount.toLocaleString("en-US")} {document.chunkCount === 1 ? "passage" : "passages"} ·{" "}
          {new Date(document.createdAt).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}
        </small>
        {document.note && <small className="document-note">{document.note}</small>}
        {document.status === "processing" && <small className="document-note">Reading this file did not finish. Delete it and add it again.</small>}
      </div>
      <button type="button" className="icon-button" aria-label={`Delete “${document.name}”`} disabled={isBusy} onClick={() => void remove()} data-testid="delete-document">
        <Icon name="trash" size={18} />
      </button>
      {dialog}
    </li>
  );
}

function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(bytes < 10_240 ? 1 : 0)} KB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
