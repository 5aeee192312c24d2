import type { UsageLine } from "../../shared/types";
import type { DatabaseManager } from "../db/d1";
import type { Env } from "../env";

/** What is counted against Cloudflare's quotas. */
export interface CloudflareCosts {
  requests: number;
  computeTime: number;
  bandwidthGB: number;
  kvReads: number;
  kvWrites: number;
  r2Storage: number;
  r2Requests: number;
  d1Queries: number;
}

export type UsageMetric = "requests" | "computeTimeMs" | "bandwidthBytes" | "kvReads" | "kvWrites" | "r2StorageBytes" | "r2Requests" | "d1Queries";

interface Quota {
  label: string;
  limit: number;
  /** Empty where the label says what is counted. */
  unit: string;
  period: "day" | "month" | "total";
  /** What one recorded unit is in the quota's unit. */
  scale: number;
}

const GIB = 1024 ** 3;

/**
 * The quotas of the free plan, counted over the whole application. Where Cloudflare counts rows
 * (D1) or classes of operations (R2), our count of calls stands in for them: an early warning, not
 * a bill. Compute is the time from request to answer, an upper bound of CPU time.
 */
export const QUOTAS: Record<UsageMetric, Quota> = {
  requests: { label: "Function requests", limit: 100_000, unit: "", period: "day", scale: 1 },
  computeTimeMs: { label: "Function time", limit: 1_000_000, unit: "s", period: "month", scale: 1 / 1000 },
  bandwidthBytes: { label: "Files sent", limit: 100, unit: "GB", period: "month", scale: 1 / GIB },
  kvReads: { label: "KV reads", limit: 100_000, unit: "", period: "day", scale: 1 },
  kvWrites: { label: "KV writes", limit: 1_000, unit: "", period: "day", scale: 1 },
  r2StorageBytes: { label: "R2 storage", limit: 10, unit: "GB", period: "total", scale: 1 / GIB },
  r2Requests: { label: "R2 requests", limit: 1_000_000, unit: "", period: "month", scale: 1 },
  d1Queries: { label: "D1 queries", limit: 5_000_000, unit: "", period: "day", scale: 1 },
};

const ALERT_SHARE = 0.8;

/** Counts what one request used. The libraries add to it as they go. */
export class UsageRecorder {
  private readonly counts = new Map<UsageMetric, number>();

  add(metric: UsageMetric, amount: number): void {
    this.counts.set(metric, (this.counts.get(metric) ?? 0) + amount);
  }

  entries(): [UsageMetric, number][] {
    return [...this.counts].filter(([, value]) => value !== 0);
  }
}

export interface Alert {
  metric: UsageMetric;
  text: string;
}

export class CostMonitor {
  constructor(
    private readonly db: DatabaseManager,
    private readonly env: Pick<Env, "BREVO_API_KEY" | "BREVO_API_URL" | "BREVO_SENDER" | "ALERT_EMAIL">,
    private readonly now: () => number = Date.now,
  ) {}

  /** Adds one request's counts to the totals, and alerts for each quota that now stands at 80 %. */
  async record(usage: UsageRecorder): Promise<void> {
    const entries = usage.entries();
    if (entries.length === 0) return;
    const results = await this.db.batch<{ metric: UsageMetric; value: number }>(
      entries.map(([metric, value]) =>
        this.db
          .prepare(
            `INSERT INTO usage_totals (period, metric, value) VALUES (?1, ?2, ?3)
             ON CONFLICT (period, metric) DO UPDATE SET value = value + ?3
             RETURNING metric, value`,
          )
          .bind(this.period(metric), metric, value),
      ),
    );
    const totals: Partial<Record<UsageMetric, number>> = {};
    for (const row of results.flatMap((result) => result.results)) totals[row.metric] = row.value;
    await this.alertOn(totals);
  }

  /** Checks totals that were measured elsewhere, for instance by Cloudflare's own analytics. */
  async trackUsage(metrics: CloudflareCosts): Promise<void> {
    await this.alertOn({
      requests: metrics.requests,
      computeTimeMs: metrics.computeTime,
      bandwidthBytes: metrics.bandwidthGB * GIB,
      kvReads: metrics.kvReads,
      kvWrites: metrics.kvWrites,
      r2StorageBytes: metrics.r2Storage,
      r2Requests: metrics.r2Requests,
      d1Queries: metrics.d1Queries,
    });
  }

  async overview(): Promise<UsageLine[]> {
    const metrics = Object.keys(QUOTAS) as UsageMetric[];
    const rows = await this.db.all<{ period: string; metric: UsageMetric; value: number }>(
      `SELECT period, metric, value FROM usage_totals WHERE period IN (?, ?, 'total')`,
      this.day(),
      this.month(),
    );
    return metrics.map((metric) => {
      const quota = QUOTAS[metric];
      const row = rows.find((candidate) => candidate.metric === metric && candidate.period === this.period(metric));
      return {
        metric,
        label: quota.label,
        used: Math.max(0, (row?.value ?? 0) * quota.scale),
        limit: quota.limit,
        unit: quota.unit,
        period: quota.period,
      };
    });
  }

  private async alertOn(totals: Partial<Record<UsageMetric, number>>): Promise<void> {
    for (const alert of alertsFor(totals)) {
      const isFirst = await this.db.run(
        "INSERT OR IGNORE INTO usage_alerts (period, metric, sent_at) VALUES (?, ?, ?)",
        this.period(alert.metric),
        alert.metric,
        this.now(),
      );
      if (isFirst > 0) await this.sendCostAlert(alert.text);
    }
  }

  private async sendCostAlert(text: string): Promise<void> {
    console.warn(`Cost alert: ${text}`);
    const { BREVO_API_KEY, BREVO_SENDER, ALERT_EMAIL } = this.env;
    if (!BREVO_API_KEY) return;
    if (!BREVO_SENDER || !ALERT_EMAIL) {
      console.warn("Cost alert not mailed: set BREVO_SENDER and ALERT_EMAIL beside BREVO_API_KEY");
      return;
    }
    const response = await fetch(this.env.BREVO_API_URL ?? "https://api.brevo.com/v3/smtp/email", {
      method: "POST",
      headers: { "api-key": BREVO_API_KEY, "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({
        sender: { email: BREVO_SENDER, name: "next-mastra-chat" },
        to: [{ email: ALERT_EMAIL }],
        subject: `next-mastra-chat: ${text}`,
        textContent: text,
      }),
      signal: AbortSignal.timeout(10_000),
    });
    await response.body?.cancel();
    if (!response.ok) console.warn(`Cost alert not mailed: Brevo answered ${response.status}`);
  }

  private period(metric: UsageMetric): string {
    const { period } = QUOTAS[metric];
    return period === "day" ? this.day() : period === "month" ? this.month() : "total";
  }

  private day(): string {
    return new Date(this.now()).toISOString().slice(0, 10);
  }

  private month(): string {
    return new Date(this.now()).toISOString().slice(0, 7);
  }
}

/** Which of these totals stand at 80 % of their quota or above. */
export function alertsFor(totals: Partial<Record<UsageMetric, number>>): Alert[] {
  const alerts: Alert[] = [];
  for (const [metric, value] of Object.entries(totals) as [UsageMetric, number][]) {
    const quota = QUOTAS[metric];
    const share = (value * quota.scale) / quota.limit;
    if (share < ALERT_SHARE) continue;
    const when = quota.period === "day" ? " daily" : quota.period === "month" ? " monthly" : "";
    alerts.push({
      metric,
      text: `${quota.label} at ${Math.floor(share * 100)} % of the${when} limit of ${`${quota.limit.toLocaleString("en-US")} ${quota.unit}`.trim()}`,
    });
  }
  return alerts;
}
