export default defineNuxtConfig({
  compatibilityDate: '2025-09-01',
  telemetry: false,
  nitro: { preset: 'cloudflare_pages' },
  routeRules: {
    '/about': { prerender: true },
    '/old': { redirect: { to: '/about', statusCode: 308 } },
  },
});
