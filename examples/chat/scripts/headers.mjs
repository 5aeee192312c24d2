// Writes `_headers` into the exported site: long caching for hashed files, and a content security
// policy that names each inline script of Next's export by its hash, so that no other can run.
//
//   node scripts/headers.mjs OUT_DIR
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const out = process.argv[2];
if (!out) throw new Error("Which folder? node scripts/headers.mjs OUT_DIR");


// Where Clerk's script comes from when Clerk is configured. A production instance of Clerk has a host
// of one's own: CLERK_FRONTEND_API=https://clerk.example.com names it at build time.
const clerk = ["https://*.clerk.accounts.dev", "https://*.clerk.com", process.env.CLERK_FRONTEND_API].filter(Boolean).join(" ");

const pages = readdirSync(out, { recursive: true })
  .map(String)
  .filter((path) => path.endsWith(".html"));

const rules = ["/_next/static/*", "  Cache-Control: public, max-age=31536000, immutable", ""];
const common = [
  "  X-Content-Type-Options: nosniff",
  "  Referrer-Policy: same-origin",
  "  Permissions-Policy: camera=(), microphone=(), geolocation=()",
];
rules.push("/*", ...common, "");

for (const page of pages) {
  const html = readFileSync(join(out, page), "utf8");
  const hashes = new Set();
  for (const [, body] of html.matchAll(/<script(?![^>]*\bsrc=)[^>]*>([\s\S]*?)<\/script>/g)) {
    hashes.add(`'sha256-${createHash("sha256").update(body).digest("base64")}'`);
  }
  const policy = [
    "default-src 'self'",
    `script-src 'self' ${clerk} ${[...hashes].join(" ")}`,
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: https://img.clerk.com",
    `connect-src 'self' ${clerk}`,
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join("; ");
  if (policy.length > 1900) throw new Error(`The policy for ${page} is longer than a line of _headers may be`);
  const path = page === "index.html" ? "/" : `/${page.replace(/\.html$/, "").replace(/\/index$/, "")}`;
  rules.push(path, `  Content-Security-Policy: ${policy}`, "");
}

writeFileSync(join(out, "_headers"), rules.join("\n"));
console.log(`_headers: ${pages.length} pages`);
