import { defineConfig } from '@solidjs/start/config';

export default defineConfig({
  middleware: 'src/middleware.ts',
  server: { preset: 'cloudflare_pages', compatibilityDate: '2025-09-01', prerender: { routes: ['/about'] } },
});
