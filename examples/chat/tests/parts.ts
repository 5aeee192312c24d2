import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

/**
 * What tests run on: D1 over node's own SQLite, so that statements and migrations meet the real
 * thing; KV as a map; and a dataset that remembers its points.
 */

type SqliteModule = typeof import("node:sqlite");

/** null before Node 22.5, which has no SQLite. */
export const sqlite: SqliteModule | null = (() => {
  try {
    return createRequire(__filename)("node:sqlite") as SqliteModule;
  } catch {
    return null;
  }
})();

export const withoutSqlite = sqlite ? false : "this Node has no node:sqlite";

const MIGRATIONS = join(__dirname, "../../migrations");

export function migrations(): { name: string; sql: string }[] {
  return readdirSync(MIGRATIONS)
    .sort()
    .map((name) => ({ name, sql: readFileSync(join(MIGRATIONS, name), "utf8") }));
}

interface Prepared {
  sql: string;
  params: unknown[];
}

/** A database with the migrations applied; `batches` has the size of each batch that ran. */
export function openDatabase(): { db: D1Database; batches: number[] } {
  if (!sqlite) throw new Error("node:sqlite is missing");
  const database = new sqlite.DatabaseSync(":memory:");
  database.exec("PRAGMA foreign_keys = ON");
  for (const { sql } of migrations()) database.exec(sql);
  const batches: number[] = [];

  const execute = ({ sql, params }: Prepared): { results: unknown[]; success: true; meta: { changes: number } } => {
    const results = database.prepare(sql).all(...(params as never[]));
    const { changes } = database.prepare("SELECT changes() AS changes").get() as { changes: number };
    return { results, success: true, meta: { changes } };
  };
  const statement = (sql: string, params: unknown[]): object => ({
    sql,
    params,
    bind: (...values: unknown[]) => statement(sql, values),
    all: async () => execute({ sql, params }),
    run: async () => execute({ sql, params }),
    first: async () => execute({ sql, params }).results[0] ?? null,
  });
  const db = {
    prepare: (sql: string) => statement(sql, []),
    batch: async (statements: Prepared[]) => {
      batches.push(statements.length);
      database.exec("BEGIN");
      try {
        const results = statements.map(execute);
        database.exec("COMMIT");
        return results;
      } catch (error) {
        database.exec("ROLLBACK");
        throw error;
      }
    },
  };
  return { db: db as unknown as D1Database, batches };
}

export interface StoredValue {
  value: string;
  expirationTtl: number | undefined;
}

export function openNamespace(): { kv: KVNamespace; values: Map<string, StoredValue> } {
  const values = new Map<string, StoredValue>();
  const kv = {
    get: async (key: string) => {
      const stored = values.get(key);
      return stored ? JSON.parse(stored.value) : null;
    },
    put: async (key: string, value: string, options?: { expirationTtl?: number }) => {
      values.set(key, { value, expirationTtl: options?.expirationTtl });
    },
    delete: async (key: string) => {
      values.delete(key);
    },
    list: async ({ prefix = "" }: { prefix?: string }) => ({
      keys: [...values.keys()].filter((name) => name.startsWith(prefix)).map((name) => ({ name })),
      list_complete: true,
    }),
  };
  return { kv: kv as unknown as KVNamespace, values };
}

export function openDataset(): { dataset: AnalyticsEngineDataset; points: AnalyticsEngineDataPoint[] } {
  const points: AnalyticsEngineDataPoint[] = [];
  return { dataset: { writeDataPoint: (point) => void points.push(point ?? {}) }, points };
}
