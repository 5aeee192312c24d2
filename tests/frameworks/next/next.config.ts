// The specification's own configuration, word for word.
import { setupDevPlatform, } from '@cloudflare/next-on-pages/next-dev';

const nextConfig = {
    experimental: {
        runtime: 'edge',
    },
    images: {
        unoptimized: true, // Cloudflare Images 使用時
    },
    // Cloudflare 最適化
    trailingSlash: false,
    poweredByHeader: false,
    compress: true,
};

if (process.env.NODE_ENV === 'development') {
    await setupDevPlatform();
}

export default nextConfig;
