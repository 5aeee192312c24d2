import type { Env } from "../env";
import { UpstreamError } from "../http/errors";

export interface AnalyticsQuery {
  dataset: string;
  timeRange: { start: string; end: string };
}

export interface ChatMetricsRow {
  timestamp: string;
  blobs: string[];
  doubles: number[];
}

interface GraphQLAnswer {
  data?: {
    viewer?: { accounts?: { analyticsEngineDatasets?: { data?: ChatMetricsRow[] }[] }[] };
  } | null;
  errors?: { message: string }[] | null;
}

/** Reads the metrics back. Works only with CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN. */
export class AnalyticsDashboard {
  constructor(private readonly env: Pick<Env, "CLOUDFLARE_ACCOUNT_ID" | "CLOUDFLARE_API_TOKEN" | "CLOUDFLARE_GRAPHQL_URL">) {}

  isConfigured(): boolean {
    return Boolean(this.env.CLOUDFLARE_ACCOUNT_ID && this.env.CLOUDFLARE_API_TOKEN);
  }

  async getChatMetrics(timeRange: AnalyticsQuery["timeRange"]): Promise<ChatMetricsRow[]> {
    const query = `
      query ChatMetrics($accountId: string!, $start: Time!, $end: Time!) {
        viewer {
          accounts(filter: { accountTag: $accountId }) {
            analyticsEngineDatasets(filter: { name: "chat_metrics" }) {
              data(filter: { datetime_geq: $start, datetime_leq: $end }) {
                timestamp
                blobs
                doubles
              }
            }
          }
        }
      }
    `;
    const answer = await this.executeGraphQLQuery(query, timeRange);
    const accounts = answer.data?.viewer?.accounts ?? [];
    return accounts.flatMap((account) => account.analyticsEngineDatasets ?? []).flatMap((dataset) => dataset.data ?? []);
  }

  private async executeGraphQLQuery(query: string, timeRange: AnalyticsQuery["timeRange"]): Promise<GraphQLAnswer> {
    const response = await fetch(this.env.CLOUDFLARE_GRAPHQL_URL ?? "https://api.cloudflare.com/client/v4/graphql", {
      method: "POST",
      headers: { authorization: `Bearer ${this.env.CLOUDFLARE_API_TOKEN ?? ""}`, "content-type": "application/json" },
      body: JSON.stringify({ query, variables: { accountId: this.env.CLOUDFLARE_ACCOUNT_ID, ...timeRange } }),
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok) throw new UpstreamError("analytics", `Analytics answered ${response.status}. Try again later.`);
    const answer = await response.json<GraphQLAnswer>();
    const failure = answer.errors?.[0];
    if (failure) throw new UpstreamError("analytics", `Analytics refused the query: ${failure.message}`);
    return answer;
  }
}
