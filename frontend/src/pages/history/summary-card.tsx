import { classes } from "../../classes";
import { downloadCsv } from "../../csv";
import { formatExact } from "../../format";
import { formatMetric, type MetricInfo, metrics, percentChange } from "../../metrics";
import type { DateRange } from "../../period";
import { href, navigate, type Route } from "../../route";
import { HistoryChart } from "../../ui/history-chart";
import { indexOfPartial, type Summary, seriesValues } from "./queries";

interface Props {
  route: Route;
  /** The metric of the chart. */
  metric: MetricInfo;
  range: DateRange;
  previousRange: DateRange;
  summary: Summary;
  theme: string;
}

/** The totals of all metrics, and the chart of the selected one. */
export function SummaryCard({ route, metric, range, previousRange, summary, theme }: Props) {
  const { totals, previousTotals, series, previousSeries, error } = summary;
  const values = seriesValues(range, series.data?.results, metric);
  const download = () => {
    const [from, to] = range.bounds.map((date) => date.slice(0, 10));
    const rows = range.buckets.map((bucket, i) => [bucket, values[i] ?? null]);
    downloadCsv(`${route.site} ${from} to ${to}.csv`, [["time", metric.name], ...rows]);
  };
  const reloading = series.loading && series.data !== null;
  return (
    <section aria-label="Totals and chart" className="card overflow-hidden">
      <div className="grid grid-cols-2 sm:grid-cols-3 lg:grid-cols-6">
        {metrics.map((m, i) => (
          <Total
            key={m.id}
            metric={m}
            value={totals.data?.results[0]?.metrics[i] ?? null}
            previous={previousTotals.data?.results[0]?.metrics[i] ?? null}
            loaded={totals.data !== null}
            stale={error !== null}
            selected={m.id === metric.id}
            onSelect={() => navigate(href({ ...route, metric: m.id }))}
          />
        ))}
      </div>
      <div
        className={classes(
          "p-4 transition-opacity duration-150",
          error ? "opacity-50" : reloading && "opacity-60",
        )}
      >
        <div className="mb-2 flex flex-wrap items-center justify-between gap-2 text-xs text-soft">
          <span className="flex flex-wrap items-center gap-x-4 gap-y-1">
            <LineLegend name={range.label} /> <LineLegend name={previousRange.label} dotted />
          </span>
          <button type="button" className="quiet target px-2 py-1" onClick={download}>
            CSV
          </button>
        </div>
        {series.data || error ? (
          <HistoryChart
            metric={metric}
            grain={range.grain}
            buckets={range.buckets}
            values={values}
            previousValues={seriesValues(previousRange, previousSeries.data?.results, metric)}
            partialIndex={indexOfPartial(range)}
            theme={theme}
          />
        ) : (
          <div className="skeleton h-64" />
        )}
      </div>
    </section>
  );
}

function LineLegend({ name, dotted = false }: { name: string; dotted?: boolean }) {
  return (
    <span className="flex items-center gap-1.5">
      <svg aria-hidden="true" width="16" height="8" className={dotted ? "text-(--previous)" : "text-accent"}>
        <path
          d="M1 4h14"
          stroke="currentColor"
          strokeWidth="2"
          strokeDasharray={dotted ? "2 3" : undefined}
        />
      </svg>
      {name}
    </span>
  );
}

interface TotalProps {
  metric: MetricInfo;
  value: number | null;
  previous: number | null;
  loaded: boolean;
  /** The last request failed: the value is older. */
  stale: boolean;
  selected: boolean;
  onSelect: () => void;
}

/** A metric's total, which selects the metric of the chart. */
function Total({ metric, value, previous, loaded, stale, selected, onSelect }: TotalProps) {
  const text = value === null ? "–" : formatMetric(metric.id, value);
  return (
    <button
      type="button"
      aria-pressed={selected}
      onClick={onSelect}
      className={classes(
        "relative flex min-h-24 flex-col items-start gap-1 p-4 text-left",
        "border-r border-b border-line hover:bg-raised",
        selected && "after:absolute after:inset-x-0 after:bottom-0 after:h-0.5 after:bg-accent",
      )}
    >
      <span className={selected ? "font-medium text-accent-text" : "text-soft"}>{metric.name}</span>
      <span
        data-testid={`total-${metric.id}`}
        title={value === null ? undefined : formatExact(Math.round(value * 100) / 100)}
        className={`text-lg font-semibold ${stale ? "opacity-50" : ""}`}
      >
        {loaded ? text : <span className="skeleton block h-6 w-14" />}
      </span>
      <span
        className="min-h-4 text-xs text-soft"
        title={previous === null ? undefined : `${formatMetric(metric.id, previous)} in the previous period`}
      >
        {value !== null && previous !== null && (
          <Change percent={percentChange(value, previous)} lowerIsBetter={metric.lowerIsBetter} />
        )}
      </span>
    </button>
  );
}

function Change({ percent, lowerIsBetter = false }: { percent: number | null; lowerIsBetter?: boolean }) {
  if (percent === null) return null;
  if (percent === 0) return <span>= 0%</span>;
  const better = percent > 0 !== lowerIsBetter;
  return (
    <span className={better ? "text-good" : "text-bad"}>
      {percent > 0 ? "↑" : "↓"} {Math.abs(percent)}%
    </span>
  );
}
