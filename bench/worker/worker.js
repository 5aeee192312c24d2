// The same work as a Worker, for `workerd serve wrangler.json`.

import { d1Insert, d1Read, hello, kvRead, kvWrite, setUp } from "./lib.js";

const ROUTES = {
  "/set-up": setUp,
  "/hello": hello,
  "/kv-read": kvRead,
  "/kv-write": kvWrite,
  "/d1-read": d1Read,
  "/d1-insert": d1Insert,
};

export default {
  fetch(request, env) {
    const route = ROUTES[new URL(request.url).pathname];
    return route ? route(env) : new Response("not found", { status: 404 });
  },
};
