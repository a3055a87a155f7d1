import { formatDuration, formatShort } from "./format";

export type Metric =
  | "visitors"
  | "visits"
  | "pageviews"
  | "views_per_visit"
  | "bounce_rate"
  | "visit_duration";

export interface MetricInfo {
  id: Metric;
  name: string;
  lowerIsBetter?: boolean;
  /** A rate has no value where its denominator is 0; a count is 0 there. */
  isRate?: boolean;
}

/** The metrics of the history page, in their order on it. */
export const metrics: MetricInfo[] = [
  { id: "visitors", name: "People" },
  { id: "visits", name: "Visits" },
  { id: "pageviews", name: "Page views" },
  { id: "views_per_visit", name: "Views a visit", isRate: true },
  { id: "bounce_rate", name: "Bounce rate", lowerIsBetter: true, isRate: true },
  { id: "visit_duration", name: "Visit duration", isRate: true },
];

export const metricInfo = (id: Metric): MetricInfo => metrics.find((m) => m.id === id) as MetricInfo;

/** Formats a value in its metric's unit. */
export function formatMetric(id: Metric, n: number): string {
  if (id === "bounce_rate") return `${Math.round(n)}%`;
  if (id === "visit_duration") return formatDuration(n);
  if (id === "views_per_visit") return n.toFixed(n >= 10 ? 1 : 2).replace(/\.?0+$/, "") || "0";
  return formatShort(n);
}

/** The change from the previous value in percent; null where that is 0. */
export function percentChange(value: number, previous: number): number | null {
  return previous === 0 ? null : Math.round((100 * (value - previous)) / previous);
}
