/** What wrangler.toml binds, and the secrets and variables that switch on the outside services. */
export interface Env {
  DB: D1Database;
  R2_BUCKET: R2Bucket;
  KV_CACHE: KVNamespace;
  KV_SESSIONS: KVNamespace;
  ANALYTICS_ENGINE: AnalyticsEngineDataset;

  OPENAI_API_KEY?: string;
  OPENAI_BASE_URL?: string;
  OPENAI_MODEL?: string;
  OPENAI_EMBEDDING_MODEL?: string;
  PINECONE_API_KEY?: string;
  PINECONE_INDEX?: string;
  PINECONE_API_URL?: string;
  CLERK_SECRET_KEY?: string;
  CLERK_PUBLISHABLE_KEY?: string;
  CLERK_API_URL?: string;
  BREVO_API_KEY?: string;
  BREVO_API_URL?: string;
  BREVO_SENDER?: string;
  ALERT_EMAIL?: string;
  CLOUDFLARE_ACCOUNT_ID?: string;
  CLOUDFLARE_API_TOKEN?: string;
  CLOUDFLARE_GRAPHQL_URL?: string;
}

/** Bounds on what one person may send or keep. */
export const LIMITS = {
  uploadBytes: 10 * 1024 * 1024,
  documentsPerUser: 200,
  conversationsPerUser: 500,
  messagesPerConversation: 1000,
  messagesPerMinute: 30,
  messageCharacters: 8000,
  titleCharacters: 120,
  nameCharacters: 80,
  emailCharacters: 254,
  queryCharacters: 200,
  /** Passages indexed from one document; what comes after them is kept but not searched. */
  chunksPerDocument: 5000,
  jsonBodyBytes: 64 * 1024,
} as const;
