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
  // `npm test` checks the types, of the page and of the Functions; the build need not do it again.
  typescript: { ignoreBuildErrors: true },
  eslint: { ignoreDuringBuilds: true },
};

export default nextConfig;
