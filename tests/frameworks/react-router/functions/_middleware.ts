export const onRequest = async ({ next }: { next: () => Promise<Response> }) => {
  const answer = await next();
  const response = new Response(answer.body, answer);
  response.headers.set('x-hook', 'react-router');
  return response;
};
