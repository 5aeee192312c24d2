import type { KVCacheManager } from "../cache/kv";
import type { Env } from "../env";
import { HttpError, UpstreamError } from "../http/errors";
import { base64UrlDecode } from "../text";

/** Checks Clerk's session tokens (RS256) against the instance's public keys. */

export interface ClerkClaims {
  sub: string;
  sid: string;
  exp: number;
  nbf?: number;
  azp?: string;
}

export interface ClerkUser {
  email: string;
  name: string;
}

export interface PublicKey extends JsonWebKey {
  kid?: string;
}

const CLOCK_SKEW_S = 10;
const invalid = (): HttpError => new HttpError(401, "sign_in_failed", "This sign-in could not be verified. Sign in again.");

export class ClerkVerifier {
  constructor(
    private readonly env: Pick<Env, "CLERK_SECRET_KEY" | "CLERK_API_URL">,
    private readonly cache: KVCacheManager,
    private readonly now: () => number = Date.now,
  ) {}

  /** The claims of a token that Clerk signed, is valid now and was made for `origin`. */
  async verify(token: string, origin: string): Promise<ClerkClaims> {
    const keys = await this.cache.cacheWithPattern("clerk-jwks", async () => await this.fetchKeys(), 3600);
    return await verifyToken(token, keys, origin, this.now());
  }

  async user(userId: string): Promise<ClerkUser> {
    const user = await this.api<{
      first_name: string | null;
      last_name: string | null;
      primary_email_address_id: string | null;
      email_addresses: { id: string; email_address: string; verification: { status: string } | null }[];
    }>(`/v1/users/${encodeURIComponent(userId)}`);
    const address = user.email_addresses.find((item) => item.id === user.primary_email_address_id);
    if (!address || address.verification?.status !== "verified") {
      throw new HttpError(403, "email_not_verified", "Verify your e-mail address with Clerk, then sign in again.");
    }
    const email = address.email_address.toLowerCase();
    const name = [user.first_name, user.last_name].filter(Boolean).join(" ") || email.split("@")[0] || email;
    return { email, name };
  }

  private async fetchKeys(): Promise<PublicKey[]> {
    return (await this.api<{ keys: PublicKey[] }>("/v1/jwks")).keys;
  }

  private async api<T>(path: string): Promise<T> {
    const base = this.env.CLERK_API_URL ?? "https://api.clerk.com";
    const response = await fetch(`${base}${path}`, {
      headers: { authorization: `Bearer ${this.env.CLERK_SECRET_KEY ?? ""}` },
      signal: AbortSignal.timeout(10_000),
    }).catch(() => null);
    if (!response?.ok) {
      await response?.body?.cancel();
      throw new UpstreamError("clerk", `The sign-in service ${response ? `answered with an error (${response.status})` : "could not be reached"}. Try again in a moment.`);
    }
    return await response.json<T>();
  }
}

export async function verifyToken(token: string, keys: PublicKey[], origin: string, now: number): Promise<ClerkClaims> {
  const parts = token.split(".");
  const [head, body, signature] = parts;
  if (parts.length !== 3 || !head || !body || !signature) throw invalid();
  let header: { alg?: string; kid?: string };
  let claims: ClerkClaims;
  let signatureBytes: Uint8Array;
  try {
    header = JSON.parse(new TextDecoder().decode(base64UrlDecode(head)));
    claims = JSON.parse(new TextDecoder().decode(base64UrlDecode(body)));
    signatureBytes = base64UrlDecode(signature);
  } catch {
    throw invalid();
  }
  // Only the algorithm that Clerk uses: a token must not choose its own.
  const jwk = keys.find((key) => key.kid === header.kid);
  if (header.alg !== "RS256" || !jwk) throw invalid();
  const key = await crypto.subtle.importKey("jwk", jwk, { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, false, ["verify"]);
  const signed = new TextEncoder().encode(`${head}.${body}`);
  if (!(await crypto.subtle.verify("RSASSA-PKCS1-v1_5", key, signatureBytes, signed))) throw invalid();

  const seconds = now / 1000;
  if (typeof claims.sub !== "string" || typeof claims.sid !== "string" || typeof claims.exp !== "number") throw invalid();
  if (claims.exp + CLOCK_SKEW_S < seconds) throw invalid();
  if (claims.nbf !== undefined && claims.nbf - CLOCK_SKEW_S > seconds) throw invalid();
  if (claims.azp !== undefined && claims.azp !== origin) throw invalid();
  return claims;
}
