/** The application's two cookies. Both are HttpOnly: no script reads them. */

export const SESSION_COOKIE = "chat_session";
/** Stays when a local session ends: it is what lets the same person back in. */
export const DEVICE_COOKIE = "chat_device";

export function readCookie(request: Request, name: string): string | null {
  for (const part of (request.headers.get("cookie") ?? "").split(";")) {
    const [key, ...value] = part.trim().split("=");
    if (key === name) return value.join("=");
  }
  return null;
}

/** `maxAgeS` 0 removes the cookie. Secure wherever the site is served over HTTPS. */
export function cookieHeader(url: URL, name: string, value: string, maxAgeS: number): string {
  const secure = url.protocol === "https:" ? "; Secure" : "";
  return `${name}=${value}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${maxAgeS}${secure}`;
}
