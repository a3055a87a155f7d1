/** The history page's queries, and the values of their responses. */
import { type ApiError, type Loaded, type QueryRequest, type QueryResponse, useQuery } from "../../api";
import { type MetricInfo, metrics } from "../../metrics";
import type { DateRange } from "../../period";
import type { Filter } from "../../route";

/** What all queries of the page have in common: site, date range and filters. */
export function baseQuery(site: string, range: DateRange, filters: Filter[]): QueryRequest {
  return {
    site_id: site,
    metrics: [],
    date_range: range.bounds,
    ...(filters.length ? { filters: queryFilters(filters) } : {}),
  };
}

/**
 * One filter a dimension: several values of a dimension are alternatives. Of a page, "is" refuses a value
 * with a star, which could be meant as a wildcard.
 */
function queryFilters(filters: Filter[]): unknown[] {
  const values = new Map<string, string[]>();
  for (const f of filters) values.set(f.dimension, [...(values.get(f.dimension) ?? []), f.value]);
  return [...values].map(([dimension, v]) =>
    v.some((x) => x.includes("*"))
      ? ["matches_wildcard", dimension, v.map((x) => x.replace(/[\\*]/g, "\\$&"))]
      : ["is", dimension, v],
  );
}

/** The most frequent values of a dimension. */
export function topQuery(
  base: QueryRequest,
  dimension: string,
  metrics: string[],
  limit: number,
): QueryRequest {
  return {
    ...base,
    metrics: metrics as QueryRequest["metrics"],
    dimensions: [dimension],
    order_by: [[metrics[0] as string, "desc"]],
    pagination: { limit, offset: 0 },
  };
}

/** Adds the filter that a value contains the text, in any case. A blank text adds none. */
export function withSearch(base: QueryRequest, dimension: string, text: string): QueryRequest {
  const searched = text.trim();
  if (!searched) return base;
  const contains = ["contains", dimension, [searched], { case_sensitive: false }];
  return { ...base, filters: [...(base.filters ?? []), contains] };
}

/**
 * The values of a series, one a bucket. A bucket that the response lacks is 0, or null for a rate, which has
 * no value without visits. Future buckets are null.
 */
export function seriesValues(
  range: DateRange,
  results: QueryResponse["results"] | undefined,
  metric: MetricInfo,
): (number | null)[] {
  const bucketLength = range.buckets[0]?.length;
  const valueByBucket = new Map(
    results?.map((r) => [r.dimensions[0]?.slice(0, bucketLength), r.metrics[0] ?? null]),
  );
  const missing = metric.isRate ? null : 0;
  const partialIndex = indexOfPartial(range);
  return range.buckets.map((bucket, i) => {
    if (partialIndex >= 0 && i > partialIndex) return null;
    return valueByBucket.has(bucket) ? (valueByBucket.get(bucket) as number | null) : missing;
  });
}

/** The index of the range's partial bucket; -1 without one. */
export const indexOfPartial = (range: DateRange): number =>
  range.partialBucket ? range.buckets.indexOf(range.partialBucket) : -1;

/** The totals of all metrics and the series of one, each for a date range and the previous one. */
export interface Summary {
  totals: Loaded<QueryResponse>;
  previousTotals: Loaded<QueryResponse>;
  series: Loaded<QueryResponse>;
  previousSeries: Loaded<QueryResponse>;
  error: ApiError | null;
}

interface Query {
  base: QueryRequest | null;
  range: DateRange;
}

/** Queries the summary. A null base queries nothing; only the current range is refreshed. */
export function useSummary(current: Query, previous: Query, metric: MetricInfo, refresh: number): Summary {
  const allMetrics = metrics.map((m) => m.id);
  const totalsOf = ({ base }: Query) => base && { ...base, metrics: allMetrics };
  const seriesOf = ({ base, range }: Query) =>
    base && { ...base, metrics: [metric.id], dimensions: [range.grain] };
  const totals = useQuery(totalsOf(current), refresh);
  const previousTotals = useQuery(totalsOf(previous));
  const series = useQuery(seriesOf(current), refresh);
  const previousSeries = useQuery(seriesOf(previous));
  return { totals, previousTotals, series, previousSeries, error: totals.error ?? series.error };
}
