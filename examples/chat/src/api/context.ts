import type { DatabaseManager } from "../lib/db/d1";
import type { KVCacheManager } from "../lib/cache/kv";
import type { CostMonitor, UsageRecorder } from "../lib/cost/monitor";
import type { Env } from "../lib/env";
import { HttpError } from "../lib/http/errors";
import type { CloudflareLogger } from "../lib/logging/cloudflare";
import type { MetricsCollector } from "../lib/analytics/metrics";
import { SESSION_COOKIE, readCookie } from "../lib/auth/cookies";
import type { SemanticIndex } from "../lib/search/semantic";
import type { SessionData, SessionManager } from "../lib/session/manager";
import type { R2FileManager } from "../lib/storage/r2";
import { sha256Hex } from "../lib/text";
import type { User } from "../shared/types";

/** Everything that one request's handler works with. Built once, in `functions/api/v1`. */
export interface ApiContext {
  request: Request;
  url: URL;
  env: Env;
  db: DatabaseManager;
  files: R2FileManager;
  cache: KVCacheManager;
  sessions: SessionManager;
  metrics: MetricsCollector;
  logger: CloudflareLogger;
  costs: CostMonitor;
  usage: UsageRecorder;
  semantic: SemanticIndex | null;
  /** Work that goes on after the answer has gone out. A failure is logged. */
  after(work: Promise<unknown>): void;
}

export interface SignedIn {
  user: User;
  session: SessionData;
  sessionId: string;
}

/** Who asks; 401 when nobody is signed in. Every handler that touches someone's data begins here. */
export async function requireUser(context: ApiContext): Promise<SignedIn> {
  const signedIn = await currentUser(context);
  if (!signedIn) throw new HttpError(401, "signed_out", "You are not signed in, or your session has ended. Sign in again.");
  return signedIn;
}

export async function currentUser(context: ApiContext): Promise<SignedIn | null> {
  const token = readCookie(context.request, SESSION_COOKIE);
  if (!token || !/^[A-Za-z0-9_-]{43}$/.test(token)) return null;
  // KV keeps the hash: whoever can read the namespace cannot use what is in it.
  const sessionId = await sha256Hex(token);
  const session = await context.sessions.getSession(sessionId);
  if (!session) return null;
  // A session that began before Clerk was switched on, or after it was switched off, ends.
  if ((session.clerkSessionId === "local") !== !context.env.CLERK_SECRET_KEY) return null;
  const user = await context.db.first<{ id: string; name: string; email: string }>(
    "SELECT id, name, email FROM users WHERE id = ?",
    session.userId,
  );
  if (!user) return null;
  if (context.sessions.needsRefresh(session)) context.after(context.sessions.refreshSession(sessionId));
  return { user: { ...user, theme: session.preferences.theme }, session, sessionId };
}
