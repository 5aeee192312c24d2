import { named } from './chunks/named.js';
import words from './words.txt';

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === '/named') return new Response(named(words));
    if (pathname.startsWith('/lazy/')) {
      const name = pathname.slice('/lazy/'.length);
      try {
        const { answer } = await import(`./chunks/${name}.mjs`);
        return new Response(answer);
      } catch {
        return new Response(`there is no ${name}`, { status: 404 });
      }
    }
    return env.ASSETS.fetch(request);
  },
};
