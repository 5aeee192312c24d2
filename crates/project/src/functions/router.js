// The router of a Pages project: what stands between the runtime and the handlers in
// `functions/`. `$routes` is the table that Engawa makes from the files, most specific
// route first (pages.md 5.2):
//
//   m  the method, or "" for any         r  the route's pattern, matched in full
//   p  names of its parameters, in the   q  the same pattern as a prefix
//      order of the groups; [name] of    b  the pattern of the folder it is mounted at,
//      a catch-all                          as a prefix
//   h  module handlers                   w  middleware handlers
//   x  why the route's pattern can not be compiled; asking it throws, as it does on
//      Pages, where patterns are compiled at each request
//
// The rules are pages.md 5.3 to 5.5: middleware from the least specific route to the most
// specific one, then the modules of the first route that fits, then the static files.

function* $handlersFor(request) {
	const path = new URL(request.url).pathname;
	// The static files are looked up with repeated slashes folded, so middleware that
	// guards a folder must see `//folder/x` too. Modules do not: `//folder/x` is no route.
	const folded = path.replace(/\/+/g, "/");
	const fits = (route) => !route.m || route.m === request.method;

	for (let i = $routes.length - 1; i >= 0; i--) {
		const route = $routes[i];
		if (!fits(route)) continue;
		$check(route);
		if (route.w.length === 0) continue;
		const match = route.q.exec(path) ?? route.q.exec(folded);
		if (!match) continue;
		const literal = route.b.exec(path);
		const mount = literal ?? route.b.exec(folded);
		if (!mount) continue;
		const at = literal ? literal[0] : $unfold(path, mount[0]);
		const params = $params(route, match);
		for (const handler of route.w.flat()) yield { handler, params, at };
	}

	for (const route of $routes) {
		if (!fits(route)) continue;
		$check(route);
		const match = route.r.exec(path);
		if (!match || !route.b.test(path) || route.h.length === 0) continue;
		const params = $params(route, match);
		for (const handler of route.h.flat()) yield { handler, params, at: match[0] };
		return;
	}
}

function $check(route) {
	if (route.x) throw new TypeError(route.x);
}

// Values stay percent-encoded; a catch-all that matched nothing has no key at all.
function $params(route, match) {
	const params = Object.create(null);
	for (const [index, name] of route.p.entries()) {
		const value = match[index + 1];
		if (value === undefined) continue;
		if (Array.isArray(name)) params[name[0]] = value.split("/");
		else params[name] = value;
	}
	return params;
}

// The part of the path as it was requested that `prefix`, a part of the folded one,
// stands for.
function $unfold(path, prefix) {
	let end = 0;
	for (const char of prefix) {
		end += char.length;
		if (char === "/") while (path[end] === "/") end++;
	}
	return path.slice(0, end);
}

// A copy whose headers the handler before may change.
function $mutable(response) {
	const empty = [101, 204, 205, 304].includes(response.status);
	return new Response(empty ? null : response.body, response);
}

export default {
	async fetch(incoming, env, ctx) {
		const handlers = $handlersFor(incoming);
		let request = incoming;
		let data = {};
		let failOpen = false;

		const run = async (input, init) => {
			if (input !== undefined) {
				// Handlers that follow, and the static files, see the new request; which
				// handlers those are was decided by the path of the incoming one.
				const target = typeof input === "string" ? new URL(input, request.url).toString() : input;
				request = new Request(target, init);
			}

			const turn = handlers.next();
			if (turn.done) return env.ASSETS.fetch(request);

			const { handler, params, at } = turn.value;
			// Each handler has a request of its own, whose body it may read. Copying one
			// takes longer than a small handler does (`cf` is copied as JSON), so one
			// without a body, which nothing can use up, is copied when it is asked for.
			const given = request;
			let own = given.body === null ? undefined : new Request(given.clone());
			const response = await handler({
				get request() {
					return (own ??= new Request(given));
				},
				set request(value) {
					own = value;
				},
				functionPath: at,
				next,
				params,
				get data() {
					return data;
				},
				set data(value) {
					if (typeof value !== "object" || value === null) {
						throw new Error("context.data must be an object");
					}
					data = value;
				},
				env,
				waitUntil: ctx.waitUntil.bind(ctx),
				passThroughOnException: () => {
					failOpen = true;
				},
			});
			if (!(response instanceof Response)) {
				throw new Error("Your Pages function should return a Response");
			}
			return response;
		};
		// Only another handler could change headers: the runtime needs no copy.
		const next = async (input, init) => $mutable(await run(input, init));

		try {
			return await run();
		} catch (error) {
			if (!failOpen) throw error;
			return await env.ASSETS.fetch(request);
		}
	},
};
