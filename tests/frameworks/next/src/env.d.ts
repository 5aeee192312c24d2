import type { D1Database, KVNamespace, R2Bucket } from '@cloudflare/workers-types';

declare global {
  interface CloudflareEnv {
    GREETING: string;
    DB: D1Database;
    KV: KVNamespace;
    BUCKET: R2Bucket;
  }
}
