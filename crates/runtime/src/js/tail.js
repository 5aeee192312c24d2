// One for each process: it answers the ping of the supervisor, and, while somebody reads
// logs, it receives a tail event for every finished request.
//
// Only events with something to show are posted. All are counted, and the count is the
// answer to a ping: when it has reached the number of requests that were sent here, no
// `waitUntil` is left, and the process can go.
let finished = 0;

const silent = (event) => event.outcome === 'ok' && event.logs.length === 0 && event.exceptions.length === 0;

export default {
  async fetch() {
    return new Response(String(finished));
  },

  async tail(events, env) {
    finished += events.length;
    const shown = events.filter((event) => !silent(event));
    if (shown.length === 0) return;
    const response = await env.LOGS.fetch('http://logs/v1/tail', { method: 'POST', body: JSON.stringify(shown) });
    await response.body?.cancel();
  },
};
