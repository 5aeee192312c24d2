/** Server-sent events, as the page and OpenAI's API speak them. */

export interface ServerSentEvent {
  event: string;
  data: string;
}

export function encodeEvent(event: string, data: unknown): string {
  // JSON has no raw line ends, so one data line is enough.
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** The events in a stream of bytes, whatever way they are cut into chunks. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let pending = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      pending += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A CR at the very end may be half of a CRLF: it waits for what comes next.
      const usable = done || !pending.endsWith("\r") ? pending.length : pending.length - 1;
      const text = pending.slice(0, usable).replace(/\r\n?/g, "\n");
      const blocks = text.split("\n\n");
      pending = (blocks.pop() ?? "") + pending.slice(usable);
      if (done && pending !== "") {
        blocks.push(pending);
        pending = "";
      }
      for (const block of blocks) {
        const parsed = parseBlock(block);
        if (parsed) yield parsed;
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parseBlock(block: string): ServerSentEvent | null {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length === 0 ? null : { event, data: data.join("\n") };
}
