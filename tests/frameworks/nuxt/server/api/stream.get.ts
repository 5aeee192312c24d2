// Sends a first line, and the second once the note `go` is there.
export default defineEventHandler((event) => {
  const { KV } = bindings(event);
  const encoder = new TextEncoder();
  setResponseHeader(event, 'content-type', 'text/plain');
  return new ReadableStream({
    async start(controller) {
      controller.enqueue(encoder.encode('first\n'));
      while ((await KV.get('go')) === null) await new Promise((resolve) => setTimeout(resolve, 20));
      controller.enqueue(encoder.encode('second\n'));
      controller.close();
    },
  });
});
