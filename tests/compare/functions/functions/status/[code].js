export const onRequest = ({ params }) => {
  const status = Number(params.code);
  const headers = new Headers({ 'x-status': params.code });
  headers.append('set-cookie', 'a=1; Path=/');
  headers.append('set-cookie', 'b=2; HttpOnly');
  if (status >= 300 && status < 400 && status !== 304) headers.set('location', '/page');
  return new Response([204, 205, 304].includes(status) ? null : `status ${status}`, { status, headers });
};
