import { HttpError } from "./errors";

type Method = "GET" | "POST" | "PATCH" | "PUT" | "DELETE";

/** The parameters in a pattern: `:name` is one segment, a closing `*name` is all that is left. */
export type Params<Pattern extends string> = Pattern extends `${infer Head}/${infer Tail}`
  ? Params<Head> & Params<Tail>
  : Pattern extends `:${infer Name}` | `*${infer Name}`
    ? Record<Name, string>
    : unknown;

type Handler<Context, P> = (context: Context, params: P) => Promise<Response>;

interface Route<Context> {
  method: Method;
  segments: string[];
  handler: Handler<Context, never>;
}

export class Router<Context> {
  private readonly routes: Route<Context>[] = [];

  on<Pattern extends string>(method: Method, pattern: Pattern, handler: Handler<Context, Params<Pattern>>): this {
    this.routes.push({ method, segments: pattern.split("/").filter(Boolean), handler });
    return this;
  }

  /** Runs the first route that fits `segments` (decoded); HEAD runs as GET. */
  async handle(method: string, segments: string[], context: Context): Promise<Response> {
    const allowed = new Set<string>();
    for (const route of this.routes) {
      const params = match(route.segments, segments);
      if (params === null) continue;
      if (route.method === method || (method === "HEAD" && route.method === "GET")) {
        return await route.handler(context, params as never);
      }
      allowed.add(route.method);
    }
    if (allowed.size > 0) {
      const allow = [...allowed].join(", ");
      throw new HttpError(405, "method_not_allowed", `This address takes ${allow}.`, { allow });
    }
    throw new HttpError(404, "not_found", "There is nothing at this address.");
  }
}

function match(pattern: string[], segments: string[]): Record<string, string> | null {
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    if (part.startsWith("*")) {
      const rest = segments.slice(index);
      if (rest.length === 0) return null;
      params[part.slice(1)] = rest.join("/");
      return params;
    }
    const segment = segments[index];
    if (segment === undefined) return null;
    if (part.startsWith(":")) params[part.slice(1)] = segment;
    else if (part !== segment) return null;
  }
  return pattern.length === segments.length ? params : null;
}
