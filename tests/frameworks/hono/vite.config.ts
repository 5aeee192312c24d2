import build from '@hono/vite-build/cloudflare-pages';
import { defineConfig } from 'vite';

export default defineConfig(({ mode }) =>
  mode === 'client'
    ? { build: { rollupOptions: { input: 'src/client.tsx', output: { entryFileNames: 'static/client.js' } } } }
    : { plugins: [build({ entry: 'src/index.tsx' })], build: { emptyOutDir: false } },
);
