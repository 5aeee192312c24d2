import type { UsageRecorder } from "../cost/monitor";

export type SqlValue = string | number | null;

export interface D1Client {
  query<T = Record<string, unknown>>(sql: string, params?: SqlValue[]): Promise<D1Result<T>>;
  batch<T = Record<string, unknown>>(statements: D1PreparedStatement[]): Promise<D1Result<T>[]>;
  prepare(sql: string): D1PreparedStatement;
  dump(): Promise<ArrayBuffer>;
  exec(sql: string): Promise<D1ExecResult>;
}

/** Collects the writes of one transaction; they run together when its function has returned. */
export interface Transaction {
  run(sql: string, ...params: SqlValue[]): void;
}

export class DatabaseManager implements D1Client {
  constructor(
    private readonly db: D1Database,
    private readonly usage?: UsageRecorder,
  ) {}

  prepare(sql: string): D1PreparedStatement {
    return this.db.prepare(sql);
  }

  async query<T = Record<string, unknown>>(sql: string, params: SqlValue[] = []): Promise<D1Result<T>> {
    this.usage?.add("d1Queries", 1);
    return await this.db
      .prepare(sql)
      .bind(...params)
      .all<T>();
  }

  async all<T>(sql: string, ...params: SqlValue[]): Promise<T[]> {
    return (await this.query<T>(sql, params)).results;
  }

  async first<T>(sql: string, ...params: SqlValue[]): Promise<T | null> {
    this.usage?.add("d1Queries", 1);
    return await this.db
      .prepare(sql)
      .bind(...params)
      .first<T>();
  }

  /** Runs one write and says how many rows it changed. */
  async run(sql: string, ...params: SqlValue[]): Promise<number> {
    this.usage?.add("d1Queries", 1);
    const result = await this.db
      .prepare(sql)
      .bind(...params)
      .run();
    return result.meta.changes;
  }

  async batch<T = Record<string, unknown>>(statements: D1PreparedStatement[]): Promise<D1Result<T>[]> {
    this.usage?.add("d1Queries", statements.length);
    return await this.db.batch<T>(statements);
  }

  async exec(sql: string): Promise<D1ExecResult> {
    this.usage?.add("d1Queries", 1);
    return await this.db.exec(sql);
  }

  async dump(): Promise<ArrayBuffer> {
    return await this.db.dump();
  }

  /**
   * Runs everything that `queries` put into its transaction as one batch, which D1 rolls back whole
   * if any statement fails. Nothing is written when `queries` throws. Reads made inside happen
   * before the writes and are not part of the transaction: D1 has no interactive ones.
   */
  async transaction<T>(queries: (transaction: Transaction) => Promise<T>): Promise<T> {
    const statements: D1PreparedStatement[] = [];
    const result = await queries({
      run: (sql, ...params) => {
        statements.push(this.db.prepare(sql).bind(...params));
      },
    });
    if (statements.length > 0) await this.batch(statements);
    return result;
  }

  /**
   * Inserts records in batches of a hundred. Each batch is atomic, the whole is not: a caller that
   * needs all or nothing removes what was inserted when this throws.
   */
  async batchInsert<T extends object>(table: string, records: T[]): Promise<void> {
    const batchSize = 100;
    for (let i = 0; i < records.length; i += batchSize) {
      const batch = records.slice(i, i + batchSize);
      await this.batch(batch.map((record) => this.prepareBatchInsertStatement(table, record)));
    }
  }

  private prepareBatchInsertStatement(table: string, record: object): D1PreparedStatement {
    const columns = Object.keys(record);
    if (columns.length === 0) throw new TypeError(`A record for ${table} has no columns`);
    const names = columns.map(quoteIdentifier).join(", ");
    const marks = columns.map(() => "?").join(", ");
    return this.db
      .prepare(`INSERT INTO ${quoteIdentifier(table)} (${names}) VALUES (${marks})`)
      .bind(...(Object.values(record) as SqlValue[]));
  }
}

function quoteIdentifier(name: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new TypeError(`Not a table or column name: ${name}`);
  return `"${name}"`;
}
