import { AnalyticsDashboard } from "../lib/analytics/dashboard";
import { modelName } from "../lib/chat/openai";
import { FILE_EXTENSIONS } from "../lib/documents/extract";
import { LIMITS } from "../lib/env";
import { badRequest, HttpError } from "../lib/http/errors";
import { semanticMissing } from "../lib/search/semantic";
import type { AppConfig } from "../shared/types";
import { type ApiContext, requireUser } from "./context";

/** What the page needs to know before anyone has signed in. Holds no secret. */
export async function readConfig(context: ApiContext): Promise<Response> {
  const { env } = context;
  const missing = semanticMissing(env);
  return Response.json({
    auth: env.CLERK_SECRET_KEY ? "clerk" : "local",
    clerkPublishableKey: env.CLERK_SECRET_KEY ? (env.CLERK_PUBLISHABLE_KEY ?? null) : null,
    answers: env.OPENAI_API_KEY ? "model" : "retrieval",
    model: env.OPENAI_API_KEY ? modelName(env) : null,
    search: { keyword: true, semantic: missing === null, semanticMissing: missing },
    limits: { uploadBytes: LIMITS.uploadBytes, messageCharacters: LIMITS.messageCharacters, fileTypes: FILE_EXTENSIONS },
  } satisfies AppConfig);
}

export async function readHealth(context: ApiContext): Promise<Response> {
  await context.db.first("SELECT 1 AS ok");
  return Response.json({ ok: true });
}

/** What the whole application used of its quotas; counts only, and a minute old at most. */
export async function readUsage(context: ApiContext): Promise<Response> {
  await requireUser(context);
  const usage = await context.cache.cacheWithPattern("usage:overview", async () => await context.costs.overview(), 60);
  return Response.json({ usage });
}

/** The user's own chat metrics, read back from Analytics Engine; only with account credentials. */
export async function readMetrics(context: ApiContext): Promise<Response> {
  const { user } = await requireUser(context);
  const dashboard = new AnalyticsDashboard(context.env);
  if (!dashboard.isConfigured()) {
    throw new HttpError(409, "analytics_not_configured", "Reading metrics back needs CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN.");
  }
  const days = Number(context.url.searchParams.get("days") ?? "7");
  if (!Number.isInteger(days) || days < 1 || days > 90) throw badRequest("days must be a whole number from 1 to 90.");
  const end = new Date();
  const start = new Date(end.getTime() - days * 86_400_000);
  const rows = await dashboard.getChatMetrics({ start: start.toISOString(), end: end.toISOString() });
  const own = rows.filter((row) => row.blobs[0] === user.id && row.doubles.length === 2 && row.blobs.length === 4);
  const total = own.reduce((sum, row) => sum + (row.doubles[1] ?? 0), 0);
  return Response.json({ days, messages: own.length, averageResponseMs: own.length === 0 ? null : Math.round(total / own.length) });
}
