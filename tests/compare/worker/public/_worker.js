export default {
  async fetch(request, env, context) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case '/own':
        return Response.json({ method: request.method, search: url.search, keys: Object.keys(context), text: await request.text() });
      case '/own/assets':
        return env.ASSETS.fetch(new Request('https://assets.test/page', { headers: { 'x-from': 'worker' } }));
      case '/own/moved':
        return env.ASSETS.fetch(request);
      case '/own/post':
        return env.ASSETS.fetch('https://assets.test/page', { method: 'POST' });
      case '/own/stream': {
        const { readable, writable } = new TransformStream();
        context.waitUntil(request.body.pipeTo(writable));
        return new Response(readable);
      }
      default:
        return env.ASSETS.fetch(request);
    }
  },
};
