export const onRequest = async ({ request, next, data }) => {
  data.trail = ['root'];
  const response = await next();
  const changed = new Response(response.body, response);
  changed.headers.set('x-middleware', data.trail.join(' '));
  return changed;
};
