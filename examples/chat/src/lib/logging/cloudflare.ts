import { truncate } from "../text";

export type ErrorContext = Record<string, string | number | boolean | null>;

export class CloudflareLogger {
  constructor(
    private readonly analytics: AnalyticsEngineDataset,
    private readonly kv: KVNamespace,
  ) {}

  async logRequest(request: Request, response: Response, startTime: number): Promise<void> {
    const duration = Date.now() - startTime;
    this.analytics.writeDataPoint({
      blobs: [
        request.method,
        truncate(new URL(request.url).pathname, 512),
        response.status.toString(),
        truncate(request.headers.get("user-agent") ?? "unknown", 256),
      ],
      doubles: [duration],
      indexes: ["api_request"],
    });
  }

  async logError(error: Error, context: ErrorContext): Promise<void> {
    console.error(`${error.name}: ${error.message}`, JSON.stringify(context), error.stack ?? "");

    this.analytics.writeDataPoint({
      blobs: [error.name, truncate(error.message, 100), truncate(JSON.stringify(context), 200)],
      doubles: [1],
      indexes: ["error_log"],
    });

    if (this.isCriticalError(error)) {
      const timestamp = Date.now();
      await this.kv.put(
        `error:${timestamp}:${crypto.randomUUID()}`,
        JSON.stringify({ message: error.message, stack: error.stack, context, timestamp }),
        { expirationTtl: 86400 * 7 },
      );
    }
  }

  /** Everything that was not foreseen. A failure of an outside service is foreseen: the user is told. */
  private isCriticalError(error: Error): boolean {
    return error.name !== "HttpError" && error.name !== "UpstreamError" && error.name !== "AbortError";
  }
}
