import { ClerkVerifier } from "../lib/auth/clerk";
import { cookieHeader, DEVICE_COOKIE, readCookie, SESSION_COOKIE } from "../lib/auth/cookies";
import { LIMITS } from "../lib/env";
import { badRequest, HttpError } from "../lib/http/errors";
import { readJson, requireEmail, requireText } from "../lib/http/validate";
import { SESSION_TTL_S } from "../lib/session/manager";
import { randomToken, sha256Hex, truncate } from "../lib/text";
import type { Theme, User } from "../shared/types";
import { type ApiContext, currentUser, requireUser } from "./context";

const DEVICE_TTL_S = 400 * 86400;

export async function readSession(context: ApiContext): Promise<Response> {
  const signedIn = await currentUser(context);
  if (!signedIn) return Response.json({ user: null });
  const token = readCookie(context.request, SESSION_COOKIE) ?? "";
  const response = Response.json({ user: signedIn.user });
  // The cookie lives as long as the session behind it, which a visit refreshes.
  response.headers.append("set-cookie", cookieHeader(context.url, SESSION_COOKIE, token, SESSION_TTL_S));
  return response;
}

export async function signIn(context: ApiContext): Promise<Response> {
  return context.env.CLERK_SECRET_KEY ? await signInWithClerk(context) : await signInLocally(context);
}

export async function signOut(context: ApiContext): Promise<Response> {
  const token = readCookie(context.request, SESSION_COOKIE);
  if (token) await context.sessions.invalidateSession(await sha256Hex(token));
  const response = Response.json({ user: null });
  response.headers.append("set-cookie", cookieHeader(context.url, SESSION_COOKIE, "", 0));
  return response;
}

export async function updatePreferences(context: ApiContext): Promise<Response> {
  const { user, session, sessionId } = await requireUser(context);
  const { theme } = await readJson(context.request);
  if (theme !== "system" && theme !== "light" && theme !== "dark") throw badRequest("theme must be system, light or dark.");
  session.preferences.theme = theme satisfies Theme;
  session.lastActivityAt = new Date().toISOString();
  await context.sessions.storeSession(sessionId, session);
  return Response.json({ user: { ...user, theme } satisfies User });
}

/**
 * A name and an e-mail address, and no password. The first browser to give an address gets a key
 * that it keeps in a cookie, and the address opens only with that key afterwards: nobody reads
 * another person's conversations by typing their address.
 */
async function signInLocally(context: ApiContext): Promise<Response> {
  const body = await readJson(context.request);
  const name = requireText(body, "name", "Your name", LIMITS.nameCharacters);
  const email = requireEmail(body);
  const deviceCookie = readCookie(context.request, DEVICE_COOKIE);
  const device = deviceCookie && /^[A-Za-z0-9_-]{43}$/.test(deviceCookie) ? deviceCookie : randomToken();
  const deviceHash = await sha256Hex(device);

  const id = crypto.randomUUID();
  const created = await context.db.run(
    "INSERT INTO users (id, clerk_id, email, name, device_hash) VALUES (?, ?, ?, ?, ?) ON CONFLICT (email) DO NOTHING",
    id,
    `local:${id}`,
    email,
    name,
    deviceHash,
  );
  let userId = id;
  if (created === 0) {
    const existing = await context.db.first<{ id: string; device_hash: string | null }>(
      "SELECT id, device_hash FROM users WHERE email = ?",
      email,
    );
    if (!existing || existing.device_hash !== deviceHash) {
      throw new HttpError(
        403,
        "email_taken",
        "This address is in use in another browser. Without Clerk there is no password, so an address opens only in the browser where it was first used. Use that browser, or another address.",
      );
    }
    userId = existing.id;
    await context.db.run("UPDATE users SET name = ? WHERE id = ?", name, userId);
  }
  const response = await startSession(context, { id: userId, name, email }, "local");
  response.headers.append("set-cookie", cookieHeader(context.url, DEVICE_COOKIE, device, DEVICE_TTL_S));
  return response;
}

async function signInWithClerk(context: ApiContext): Promise<Response> {
  const body = await readJson(context.request);
  const token = requireText(body, "token", "Clerk's session token", 8192);
  const clerk = new ClerkVerifier(context.env, context.cache);
  const claims = await clerk.verify(token, context.url.origin);
  const profile = await clerk.user(claims.sub);
  const user = await context.db.first<{ id: string; name: string; email: string }>(
    `INSERT INTO users (id, clerk_id, email, name) VALUES (?, ?, ?, ?)
     ON CONFLICT (clerk_id) DO UPDATE SET email = excluded.email, name = excluded.name
     RETURNING id, name, email`,
    crypto.randomUUID(),
    claims.sub,
    profile.email,
    truncate(profile.name, LIMITS.nameCharacters),
  ).catch((error: unknown) => {
    if (String(error).includes("UNIQUE constraint failed: users.email")) {
      throw new HttpError(409, "email_taken", "This address already belongs to another account here.");
    }
    throw error;
  });
  if (!user) throw new Error("An upsert with RETURNING gave no row");
  return await startSession(context, user, claims.sid);
}

async function startSession(context: ApiContext, user: Omit<User, "theme">, clerkSessionId: string): Promise<Response> {
  const token = randomToken();
  const country = (context.request as Request<unknown, IncomingRequestCfProperties>).cf?.country;
  await context.sessions.storeSession(await sha256Hex(token), {
    userId: user.id,
    clerkSessionId,
    deviceInfo: {
      userAgent: truncate(context.request.headers.get("user-agent") ?? "unknown", 256),
      country: typeof country === "string" ? country : null,
    },
    lastActivityAt: new Date().toISOString(),
    preferences: { theme: "system" },
  });
  const response = Response.json({ user: { ...user, theme: "system" } satisfies User }, { status: 201 });
  response.headers.append("set-cookie", cookieHeader(context.url, SESSION_COOKIE, token, SESSION_TTL_S));
  return response;
}
