-- People, their conversations and what was said in them.

CREATE TABLE users (
  id TEXT PRIMARY KEY,
  -- Clerk's user id; 'local:<id>' for someone who signed in without Clerk.
  clerk_id TEXT UNIQUE NOT NULL,
  email TEXT UNIQUE NOT NULL,
  name TEXT NOT NULL DEFAULT '',
  -- SHA-256 of the key that the browser of a local user keeps. A local session has no password,
  -- so an address that is taken opens only in the browser where it began. NULL with Clerk.
  device_hash TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_users_clerk_id ON users(clerk_id);
CREATE INDEX idx_users_email ON users(email);

CREATE TABLE conversations (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  title TEXT NOT NULL,
  created_at INTEGER NOT NULL, -- milliseconds since 1970, as in every *_at INTEGER below
  updated_at INTEGER NOT NULL
);

CREATE INDEX idx_conversations_user ON conversations(user_id, updated_at DESC);

-- FTS5 wants an integer rowid to point at, so the id that leaves the house has its own column.
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  public_id TEXT UNIQUE NOT NULL,
  conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
  content TEXT NOT NULL,
  model TEXT, -- NULL for the user's own words
  sources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(sources)),
  status TEXT NOT NULL DEFAULT 'complete' CHECK (status IN ('complete', 'stopped', 'failed')),
  created_at INTEGER NOT NULL
);

CREATE INDEX idx_messages_conversation ON messages(conversation_id, id);
CREATE INDEX idx_messages_user ON messages(user_id, created_at);

-- The trigram tokenizer finds any run of three characters, so Japanese needs no word breaking.
CREATE VIRTUAL TABLE messages_fts USING fts5(
  content,
  content='messages',
  content_rowid='id',
  tokenize='trigram'
);

CREATE TRIGGER messages_ai AFTER INSERT ON messages BEGIN
  INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
END;

CREATE TRIGGER messages_ad AFTER DELETE ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content) VALUES ('delete', old.id, old.content);
END;

CREATE TRIGGER messages_au AFTER UPDATE OF content ON messages BEGIN
  INSERT INTO messages_fts(messages_fts, rowid, content) VALUES ('delete', old.id, old.content);
  INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
END;
