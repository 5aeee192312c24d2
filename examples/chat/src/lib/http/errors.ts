/** A refusal that the user should read: its message is shown as it is. */
export class HttpError extends Error {
  override readonly name = "HttpError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly headers: Record<string, string> = {},
  ) {
    super(message);
  }
}

/** An outside service failed; `message` says so in plain words and is shown to the user. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";

  constructor(
    readonly service: string,
    message: string,
  ) {
    super(message);
  }
}

export const notFound = (what: string): HttpError => new HttpError(404, "not_found", `That ${what} does not exist, or is not yours.`);

export const badRequest = (message: string): HttpError => new HttpError(400, "bad_request", message);

export function errorResponse(error: unknown): Response {
  if (error instanceof HttpError) {
    return Response.json({ error: { code: error.code, message: error.message } }, { status: error.status, headers: error.headers });
  }
  if (error instanceof UpstreamError) {
    return Response.json({ error: { code: `${error.service}_failed`, message: error.message } }, { status: 502 });
  }
  return Response.json(
    { error: { code: "internal", message: "Something went wrong on our side. Please try again." } },
    { status: 500 },
  );
}
