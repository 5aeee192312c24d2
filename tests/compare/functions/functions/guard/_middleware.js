export const onRequest = [
  ({ data, next }) => { data.trail.push('guard'); return next(); },
  ({ request, next }) => (request.headers.get('authorization') ? next() : new Response('who are you?', { status: 401, headers: { 'www-authenticate': 'Basic' } })),
];
