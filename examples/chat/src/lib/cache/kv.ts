import type { UsageRecorder } from "../cost/monitor";

/** KV forgets nothing sooner than this. docs: kv expirationTtl */
const SHORTEST_TTL_S = 60;

export class KVCacheManager {
  constructor(
    private readonly kv: KVNamespace,
    private readonly usage?: UsageRecorder,
  ) {}

  async get<T>(key: string): Promise<T | null> {
    this.usage?.add("kvReads", 1);
    return await this.kv.get<T>(key, { type: "json" });
  }

  /** `ttl` and `expirationTtl` are the same, in seconds; an hour by default, a minute at least. */
  async set<T>(key: string, value: T, options?: { ttl?: number; expirationTtl?: number }): Promise<void> {
    this.usage?.add("kvWrites", 1);
    const ttl = options?.ttl ?? options?.expirationTtl ?? 3600;
    await this.kv.put(key, JSON.stringify(value), { expirationTtl: Math.max(SHORTEST_TTL_S, ttl) });
  }

  async delete(key: string): Promise<void> {
    this.usage?.add("kvWrites", 1);
    await this.kv.delete(key);
  }

  async list(prefix?: string): Promise<KVNamespaceListResult<unknown, string>> {
    this.usage?.add("kvReads", 1);
    return await this.kv.list({ prefix });
  }

  /** The cached value under `pattern`, or what `generator` makes, which is then kept for `ttl` seconds. */
  async cacheWithPattern<T>(pattern: string, generator: () => Promise<T>, ttl = 3600): Promise<T> {
    const cached = await this.get<T>(pattern);
    if (cached !== null) return cached;

    const fresh = await generator();
    await this.set(pattern, fresh, { ttl });
    return fresh;
  }
}
