export const onRequestGet = () => new Response('hello');
export const onRequestPost = async ({ request }) => Response.json({ got: await request.text() }, { status: 201 });
