-- Uploaded documents (their bytes are in R2) and the passages that search and answers read.

CREATE TABLE documents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  public_id TEXT UNIQUE NOT NULL,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  r2_key TEXT UNIQUE NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('processing', 'ready', 'partial', 'failed')),
  note TEXT, -- what the user should know, when the status is not 'ready'
  chunk_count INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
);

CREATE INDEX idx_documents_user ON documents(user_id, id DESC);

CREATE TABLE document_chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  document_id INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  content TEXT NOT NULL,
  UNIQUE (document_id, position)
);

CREATE INDEX idx_document_chunks_user ON document_chunks(user_id);

CREATE VIRTUAL TABLE document_chunks_fts USING fts5(
  content,
  content='document_chunks',
  content_rowid='id',
  tokenize='trigram'
);

CREATE TRIGGER document_chunks_ai AFTER INSERT ON document_chunks BEGIN
  INSERT INTO document_chunks_fts(rowid, content) VALUES (new.id, new.content);
END;

CREATE TRIGGER document_chunks_ad AFTER DELETE ON document_chunks BEGIN
  INSERT INTO document_chunks_fts(document_chunks_fts, rowid, content)
  VALUES ('delete', old.id, old.content);
END;

CREATE TRIGGER document_chunks_au AFTER UPDATE OF content ON document_chunks BEGIN
  INSERT INTO document_chunks_fts(document_chunks_fts, rowid, content)
  VALUES ('delete', old.id, old.content);
  INSERT INTO document_chunks_fts(rowid, content) VALUES (new.id, new.content);
END;
