import { type ApiContext } from "../../../src/api/context";
import {
  createConversation,
  deleteConversation,
  listConversations,
  readConversation,
  renameConversation,
} from "../../../src/api/conversations";
import { deleteDocument, listDocuments, readFile, uploadDocument } from "../../../src/api/documents";
import { sendMessage } from "../../../src/api/messages";
import { search } from "../../../src/api/search";
import { readSession, signIn, signOut, updatePreferences } from "../../../src/api/session";
import { readConfig, readHealth, readMetrics, readUsage } from "../../../src/api/site";
import { MetricsCollector } from "../../../src/lib/analytics/metrics";
import { KVCacheManager } from "../../../src/lib/cache/kv";
import { CostMonitor, UsageRecorder } from "../../../src/lib/cost/monitor";
import { DatabaseManager } from "../../../src/lib/db/d1";
import type { Env } from "../../../src/lib/env";
import { errorResponse, HttpError, UpstreamError } from "../../../src/lib/http/errors";
import { Router } from "../../../src/lib/http/router";
import { CloudflareLogger } from "../../../src/lib/logging/cloudflare";
import { semanticIndex } from "../../../src/lib/search/semantic";
import { SessionManager } from "../../../src/lib/session/manager";
import { R2FileManager } from "../../../src/lib/storage/r2";

/** Every address below /api/v1/. */
const router = new Router<ApiContext>()
  .on("GET", "health", readHealth)
  .on("GET", "config", readConfig)
  .on("GET", "usage", readUsage)
  .on("GET", "metrics", readMetrics)
  .on("GET", "session", readSession)
  .on("POST", "session", signIn)
  .on("PATCH", "session", updatePreferences)
  .on("DELETE", "session", signOut)
  .on("GET", "conversations", listConversations)
  .on("POST", "conversations", createConversation)
  .on("GET", "conversations/:id", readConversation)
  .on("PATCH", "conversations/:id", renameConversation)
  .on("DELETE", "conversations/:id", deleteConversation)
  .on("POST", "conversations/:id/messages", sendMessage)
  .on("GET", "documents", listDocuments)
  .on("POST", "documents", uploadDocument)
  .on("DELETE", "documents/:id", deleteDocument)
  .on("GET", "files/*key", readFile)
  .on("GET", "search", search);

export async function onRequest(context: EventContext<Env, string, {}>): Promise<Response> {
  const { request, env, params } = context;
  const startTime = Date.now();
  const logger = new CloudflareLogger(env.ANALYTICS_ENGINE, env.KV_CACHE);
  const usage = new UsageRecorder();
  usage.add("requests", 1);

  // Work for after the answer; the counts are written when all of it is done.
  const pending: Promise<unknown>[] = [];
  const after = (work: Promise<unknown>): void => {
    pending.push(work.catch((error: unknown) => logger.logError(asError(error), { where: "after the answer" })));
  };

  let response: Response;
  try {
    response = await handleRequest(request, env, params, usage, logger, after);
  } catch (error) {
    if (!(error instanceof HttpError)) {
      await logger.logError(asError(error), { method: request.method, path: new URL(request.url).pathname, foreseen: error instanceof UpstreamError });
    }
    response = errorResponse(error);
  }
  const answered = new Response(response.body, response);
  if (!answered.headers.has("cache-control")) answered.headers.set("cache-control", "no-store");
  answered.headers.set("x-content-type-options", "nosniff");
  context.waitUntil(
    (async () => {
      await logger.logRequest(request, answered, startTime);
      await Promise.all(pending);
      usage.add("computeTimeMs", Date.now() - startTime);
      await new CostMonitor(new DatabaseManager(env.DB), env).record(usage);
    })().catch((error: unknown) => logger.logError(asError(error), { where: "usage" })),
  );
  return answered;
}

async function handleRequest(
  request: Request,
  env: Env,
  params: Params<string>,
  usage: UsageRecorder,
  logger: CloudflareLogger,
  after: ApiContext["after"],
): Promise<Response> {
  const url = new URL(request.url);
  checkOrigin(request, url);
  const db = new DatabaseManager(env.DB, usage);
  const cache = new KVCacheManager(env.KV_CACHE, usage);
  const route = params["route"] ?? [];
  return await router.handle(request.method, Array.isArray(route) ? route : [route], {
    request,
    url,
    env,
    db,
    cache,
    files: new R2FileManager(env.R2_BUCKET, usage),
    sessions: new SessionManager(env.KV_SESSIONS, usage),
    metrics: new MetricsCollector(env.ANALYTICS_ENGINE),
    logger,
    costs: new CostMonitor(db, env),
    usage,
    semantic: semanticIndex(env, cache),
    after,
  });
}

/** A page of another site must not act in the name of someone who is signed in here. */
function checkOrigin(request: Request, url: URL): void {
  if (request.method === "GET" || request.method === "HEAD") return;
  const origin = request.headers.get("origin");
  if (origin !== null && origin !== "null" && URL.canParse(origin) && new URL(origin).host === url.host) return;
  // Browsers send Origin with every write; other clients carry no one's cookies by accident.
  if (origin === null && request.headers.get("sec-fetch-site") === null) return;
  throw new HttpError(403, "wrong_origin", "This request comes from another site.");
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
