import { Hono } from 'hono';
import { jsxRenderer } from 'hono/jsx-renderer';
import { streamText } from 'hono/streaming';

type Env = { Bindings: { GREETING: string; DB: any; KV: any; BUCKET: any } };

const app = new Hono<Env>();

async function save(env: Env['Bindings'], key: string, text: string) {
  await env.DB.prepare('INSERT OR REPLACE INTO notes VALUES (?, ?)').bind(key, text).run();
  await env.KV.put(key, text);
  await env.BUCKET.put(key, text);
}

app.use(async (c, next) => {
  await next();
  c.header('x-hook', 'hono');
});
app.use(
  jsxRenderer(({ children }) => (
    <html lang="en">
      <head>
        <title>Hono</title>
        <script type="module" src="/static/client.js" />
      </head>
      <body>
        <nav>
          <a href="/">Home</a> <a href="/about">About</a> <a href="/notes">Notes</a>
        </nav>
        {children}
      </body>
    </html>
  )),
);

app.get('/', (c) =>
  c.render(
    <main>
      <h1>Home of hono</h1>
      <div id="counter" />
    </main>,
  ),
);
app.get('/about', (c) => c.render(<h1>About hono</h1>));
app.get('/old', (c) => c.redirect('/about', 308));

app.get('/notes', async (c) => {
  const { results } = await c.env.DB.prepare('SELECT key, text FROM notes ORDER BY key').all();
  return c.render(
    <main>
      <h1>Notes of hono</h1>
      <ul>
        {results.map(({ key, text }: { key: string; text: string }) => <li>{`${key}: ${text}`}</li>)}
      </ul>
      <form method="post" action="/notes">
        <input name="key" />
        <input name="text" />
        <button id="save">Save</button>
      </form>
    </main>,
  );
});
app.post('/notes', async (c) => {
  const form = await c.req.parseBody();
  await save(c.env, String(form.key), String(form.text));
  return c.redirect('/notes', 303);
});
app.get('/notes/:key', async (c) => {
  const key = c.req.param('key');
  const text = await c.env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text');
  return text === null ? c.notFound() : c.render(<h1>{`${key}: ${text}`}</h1>);
});

app.post('/api/notes', async (c) => {
  const { key, text } = await c.req.json();
  await save(c.env, key, text);
  return c.json({ saved: key }, 201, { location: `/api/notes/${key}` });
});
app.get('/api/notes/:key', async (c) => {
  const key = c.req.param('key');
  const object = await c.env.BUCKET.get(key);
  c.header('cache-control', 'no-store');
  return c.json({
    d1: await c.env.DB.prepare('SELECT text FROM notes WHERE key = ?').bind(key).first('text'),
    kv: await c.env.KV.get(key),
    r2: object ? await object.text() : null,
    greeting: c.env.GREETING,
  });
});
// Sends a first line, and the second once the note `go` is there.
app.get('/api/stream', (c) =>
  streamText(c, async (stream) => {
    await stream.writeln('first');
    while ((await c.env.KV.get('go')) === null) await stream.sleep(20);
    await stream.writeln('second');
  }),
);

app.notFound((c) => {
  c.status(404);
  return c.render(<h1>Nothing here</h1>);
});

export default app;
