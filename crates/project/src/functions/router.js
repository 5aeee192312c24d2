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

// It stands in the way of every request: what is done for each one is done once, in
// functions of the module, since the bundler makes naming a closure cost a call.

export default {
	async fetch(incoming, env, ctx) {
		const chain = new $Chain(incoming, env, ctx);
		try {
			return $checked(await chain.run());
		} catch (error) {
			if (!chain.failOpen) throw error;
			return await env.ASSETS.fetch(chain.request);
		}
	},
};

// The handlers of one request, and how far it has come.
class $Chain {
	constructor(request, env, ctx) {
		this.request = request;
		this.env = env;
		this.data = {};
		this.failOpen = false;
		this.turns = $turnsFor(request);
		this.done = 0;
		// Only another handler could change headers: the runtime needs no copy.
		this.next = async (input, init) => $mutable($checked(await this.run(input, init)));
		this.waitUntil = (promise) => ctx.waitUntil(promise);
		this.passThroughOnException = () => {
			this.failOpen = true;
		};
	}

	run(input, init) {
		if (input !== undefined) {
			// Handlers that follow, and the static files, see the new request; which
			// handlers those are was decided by the path of the incoming one.
			const target = typeof input === "string" ? new URL(input, this.request.url).toString() : input;
			this.request = new Request(target, init);
		}
		const turn = this.turns[this.done++];
		if (turn === undefined) return this.env.ASSETS.fetch(this.request);
		const { handler } = turn;
		return handler($context(this, turn));
	}
}

// What a handler is given. All of it is the object's own, for those who spread it.
function $context(chain, turn) {
	// Each handler has a request of its own, whose body it may read. Copying one takes
	// longer than a small handler does (`cf` is copied as JSON), so one without a body,
	// which nothing can use up, is copied when it is asked for.
	const given = chain.request;
	let own = given.body === null ? undefined : new Request(given.clone());
	return {
		get request() {
			return (own ??= new Request(given));
		},
		set request(value) {
			own = value;
		},
		functionPath: turn.at,
		next: chain.next,
		params: turn.params,
		get data() {
			return chain.data;
		},
		set data(value) {
			if (typeof value !== "object" || value === null) {
				throw new Error("context.data must be an object");
			}
			chain.data = value;
		},
		env: chain.env,
		waitUntil: chain.waitUntil,
		passThroughOnException: chain.passThroughOnException,
	};
}

function $checked(response) {
	if (!(response instanceof Response)) {
		throw new Error("Your Pages function should return a Response");
	}
	return response;
}

function $turnsFor(request) {
	const path = $pathOf(request.url);
	const { method } = request;
	// The static files are looked up with repeated slashes folded, so middleware that
	// guards a folder must see `//folder/x` too. Modules do not: `//folder/x` is no route.
	const folded = path.includes("//") ? path.replace($slashes, "/") : path;
	const turns = [];

	for (let i = $routes.length - 1; i >= 0; i--) {
		const route = $routes[i];
		if (route.m !== "" && route.m !== method) continue;
		if (route.x !== undefined) return $thrower(turns, route);
		if (route.w.length === 0) continue;
		const match = route.q.exec(path) ?? route.q.exec(folded);
		if (!match) continue;
		const literal = route.b.exec(path);
		const mount = literal ?? route.b.exec(folded);
		if (!mount) continue;
		const at = literal ? literal[0] : $unfold(path, mount[0]);
		const params = $params(route, match);
		for (const handler of route.w.flat()) turns.push({ handler, params, at });
	}

	for (const route of $routes) {
		if (route.m !== "" && route.m !== method) continue;
		if (route.x !== undefined) return $thrower(turns, route);
		const match = route.r.exec(path);
		if (!match || !route.b.test(path) || route.h.length === 0) continue;
		const params = $params(route, match);
		for (const handler of route.h.flat()) turns.push({ handler, params, at: match[0] });
		return turns;
	}
	return turns;
}

// Paths that mean what they say: no escapes and no `.` or `..` between slashes.
const $plain = /^https?:\/\/[^/?#\\@]+(\/(?:[\w/-]|\.(?=\w))*)(?:\?|$)/;
const $slashes = /\/\/+/g;

function $pathOf(url) {
	const match = $plain.exec(url);
	return match ? match[1] : new URL(url).pathname;
}

// The error is met by whoever asks for the handler after those before it.
function $thrower(turns, route) {
	turns.push({
		handler() {
			throw new TypeError(route.x);
		},
	});
	return turns;
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
