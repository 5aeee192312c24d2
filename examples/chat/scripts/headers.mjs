// Finishes the exported site: `_headers`, and in each page a content security policy that names the
// inline scripts of Next's export by their hashes, so that no other can run. The policy stands in the
// page, not in `_headers`, so that the two can never be of different builds.
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

for (const page of pages) {
  const path = join(out, page);
  const html = readFileSync(path, "utf8");
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
  ].join("; ");
  const finished = html.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${policy}"/>`);
  if (finished === html) throw new Error(`${page} has no <head>`);
  writeFileSync(path, finished);
}

writeFileSync(
  join(out, "_headers"),
  `/*
  X-Content-Type-Options: nosniff
  X-Frame-Options: DENY
  Referrer-Policy: same-origin
  Permissions-Policy: camera=(), microphone=(), geolocation=()

/_next/static/*
  Cache-Control: public, max-age=31536000, immutable
`,
);
console.log(`Finished ${pages.length} pages`);
