import { useEffect, useRef, useState } from "react";
import type uPlot from "uplot";
import { formatShort } from "../format";
import { formatMetric, type Metric, type MetricInfo } from "../metrics";
import { formatBucket, type Grain } from "../period";
import { themeColors } from "./colors";
import { mountPlot, PlotTip, plotAxes } from "./plot";

interface Props {
  metric: MetricInfo;
  grain: Grain;
  buckets: string[];
  values: (number | null)[];
  previousValues: (number | null)[];
  /** Index of the bucket of the present moment; -1 without one. */
  partialIndex: number;
  theme: string;
}

const HEIGHT = 256;
const Y_AXIS_WIDTH = 48;
const MIN_LABEL_DISTANCE = 84; // px

/**
 * A metric over time: the period as a solid line, dashed to its partial bucket, and the previous period as a
 * dotted line. Screen readers get a table.
 */
export function HistoryChart({ metric, grain, buckets, values, previousValues, partialIndex, theme }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [tip, setTip] = useState<{ left: number; index: number } | null>(null);
  const key = JSON.stringify([metric.id, grain, buckets, values, previousValues, partialIndex, theme]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for all that is drawn
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const isPartial = (i: number) => partialIndex >= 0 && i >= partialIndex;
    const complete = values.map((v, i) => (isPartial(i) ? null : v));
    // The dashed line runs from the last complete bucket to the partial one.
    const partial = values.map((v, i) =>
      partialIndex >= 0 && (i === partialIndex || i === partialIndex - 1) ? v : null,
    );
    const isSinglePoint = values.filter((v) => v !== null).length <= 1;
    const { unmount } = mountPlot(
      element,
      {
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          drag: { x: false, y: false },
          points: { size: 7, fill: themeColors().accent },
        },
        scales: {
          x: { time: false, range: [-0.2, Math.max(1, buckets.length - 0.8)] },
          y: { range: (_u, _min, max) => yRange(metric.id, max ?? 0) },
        },
        axes: historyAxes(metric.id, grain, buckets, element.clientWidth),
        series: historySeries(partialIndex >= 0, isSinglePoint),
        hooks: { setCursor: [(u) => setTip(cursorTip(u))] },
      },
      [buckets.map((_, i) => i), previousValues, partial, complete],
    );
    return unmount;
  }, [key]);
  const tipBucket = tip ? buckets[tip.index] : undefined;
  const format = (v: number | null | undefined) => (v == null ? "–" : formatMetric(metric.id, v));
  return (
    <figure className="relative m-0">
      <figcaption className="sr-only">{metric.name} over time</figcaption>
      <div ref={box} aria-hidden style={{ height: HEIGHT }} className="overflow-hidden" />
      {tip && tipBucket && (
        <PlotTip
          left={tip.left}
          offsets={{ before: -12, after: 12 }}
          chartWidth={box.current?.clientWidth ?? 0}
          className="top-2 px-3 py-2"
        >
          <div className="text-soft">
            {grain === "time:hour" ? tipBucket.slice(0, 16) : formatBucket(tipBucket, grain)}
            {tip.index === partialIndex && " · incomplete"}
          </div>
          <div className="mt-1 text-sm font-semibold">
            {format(values[tip.index])}{" "}
            <span className="font-normal text-soft">{metric.name.toLowerCase()}</span>
          </div>
          <div className="text-soft">{format(previousValues[tip.index])} in the previous period</div>
        </PlotTip>
      )}
      <div className="sr-only">
        <table>
          <caption>{metric.name} over time</caption>
          <tbody>
            {buckets.map((b, i) => (
              <tr key={b}>
                <th scope="row">{b}</th>
                <td>{format(values[i])}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}

function yRange(metric: Metric, max: number): [number, number] {
  if (metric === "bounce_rate") return [0, 100];
  return [0, Math.max(metric === "views_per_visit" ? 2 : 4, max * 1.1)];
}

function historyAxes(metric: Metric, grain: Grain, buckets: string[], width: number): uPlot.Axis[] {
  const maxLabels = Math.max(2, Math.floor(width / MIN_LABEL_DISTANCE));
  const step = Math.max(1, Math.ceil(buckets.length / maxLabels));
  const formatY = (v: number) => {
    if (metric === "visit_duration" || metric === "bounce_rate") return formatMetric(metric, v);
    return Number.isInteger(v) ? formatShort(v) : v.toFixed(1);
  };
  return plotAxes(
    {
      size: 28,
      gap: 6,
      splits: () => buckets.map((_, i) => i).filter((i) => i % step === 0),
      values: (_u, splits) => splits.map((i) => formatBucket(buckets[i] ?? "", grain)),
    },
    { size: Y_AXIS_WIDTH, gap: 6, values: (_u, splits) => splits.map(formatY) },
  );
}

/** The series in the order of the data: previous period, partial bucket, complete buckets. */
function historySeries(hasPartial: boolean, isSinglePoint: boolean): uPlot.Series[] {
  const { accent, card, previous } = themeColors();
  return [
    {},
    { stroke: previous, width: 1.5, dash: [2, 4], points: { show: false } },
    {
      stroke: accent,
      width: 2,
      dash: [5, 4],
      points: {
        show: hasPartial,
        size: 7,
        fill: card,
        stroke: accent,
        filter: (u) => [u.data[2]?.findLastIndex((v) => v !== null) ?? 0],
      },
    },
    {
      stroke: accent,
      width: 2,
      fill: `color-mix(in oklch, ${accent} 10%, transparent)`,
      points: { show: isSinglePoint, size: 6, fill: accent, stroke: accent },
    },
  ];
}

function cursorTip(u: uPlot): { left: number; index: number } | null {
  const index = u.cursor.idx;
  if (index == null || (u.cursor.left ?? -1) < 0) return null;
  return { left: u.valToPos(index, "x") + Y_AXIS_WIDTH, index };
}
