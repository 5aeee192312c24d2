import type { NextConfig } from "next";

// Pages serves the exported files from `out/` and runs `functions/` beside them. (An output with a
// `_worker.js`, as next-on-pages makes it, would switch `functions/` off.)
const nextConfig: NextConfig = {
  output: "export",
  images: { unoptimized: true },
  trailingSlash: false,
  poweredByHeader: false,
  reactStrictMode: true,
  outputFileTracingRoot: __dirname,
};

export default nextConfig;
