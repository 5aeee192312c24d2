export const onRequest = ({ request, params, functionPath, env }) => {
  const { pathname, search, host, protocol } = new URL(request.url);
  return Response.json({ method: request.method, pathname, search, host, protocol, params, functionPath, own: request.headers.get('x-own'), deployment: [env.CF_PAGES, env.CF_PAGES_BRANCH, env.CF_PAGES_COMMIT_SHA, env.CF_PAGES_URL] });
};
