-- What the application used, so that CostMonitor can speak up before a quota is reached.

-- period is a day ('2024-12-15') or a month ('2024-12'), in UTC, as the quota counts.
CREATE TABLE usage_totals (
  period TEXT NOT NULL,
  metric TEXT NOT NULL,
  value REAL NOT NULL,
  PRIMARY KEY (period, metric)
) WITHOUT ROWID;

-- One row for each alert sent: an alert goes out once in its period.
CREATE TABLE usage_alerts (
  period TEXT NOT NULL,
  metric TEXT NOT NULL,
  sent_at INTEGER NOT NULL,
  PRIMARY KEY (period, metric)
) WITHOUT ROWID;
