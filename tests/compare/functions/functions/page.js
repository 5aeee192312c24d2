export const onRequest = async ({ next, env, request }) => {
  const page = await next();
  const other = await env.ASSETS.fetch(new URL('/assets/a.txt', request.url));
  return new Response(`${await page.text()}+ ${await other.text()}`, page);
};
