import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { type Metric, metric, short } from "../format";
import { bucketLabel, type Grain } from "../period";
import { colors } from "./colors";

interface Props {
  id: Metric;
  name: string;
  grain: Grain;
  buckets: string[];
  values: (number | null)[];
  past: (number | null)[];
  growing: number; // index of the bucket that still grows; -1: none
  theme: string;
}

const HEIGHT = 256;

/** A metric over time: this span solid with the growing bucket open, the span before dotted. */
export function HistoryChart({ id, name, grain, buckets, values, past, growing, theme }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [tip, setTip] = useState<{ left: number; index: number } | null>(null);
  const key = JSON.stringify([id, grain, buckets, values, past, growing, theme]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for all that is drawn
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    const c = colors();
    const xs = buckets.map((_, i) => i);
    const settled = values.map((v, i) => (growing >= 0 && i >= growing ? null : v));
    const tail = values.map((v, i) => (growing >= 0 && (i === growing || i === growing - 1) ? v : null));
    const every = Math.max(1, Math.ceil(buckets.length / Math.max(2, Math.floor(el.clientWidth / 84))));
    const single = values.filter((v) => v !== null).length <= 1;
    const dots = { show: single, size: 6, fill: c.accent, stroke: c.accent };
    const plot = new uPlot(
      {
        width: el.clientWidth,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7, fill: c.accent } },
        scales: {
          x: { time: false, range: [-0.2, Math.max(1, buckets.length - 0.8)] },
          y: {
            range: (_u, _min, max) =>
              id === "bounce_rate"
                ? [0, 100]
                : [0, Math.max(id === "views_per_visit" ? 2 : 4, (max ?? 0) * 1.1)],
          },
        },
        axes: [
          {
            stroke: c.soft,
            font: "12px system-ui, sans-serif",
            size: 28,
            gap: 6,
            grid: { show: false },
            ticks: { show: false },
            splits: () => xs.filter((i) => i % every === 0),
            values: (_u, s) => s.map((i) => bucketLabel(buckets[i] ?? "", grain)),
          },
          {
            stroke: c.soft,
            font: "12px system-ui, sans-serif",
            size: 48,
            gap: 6,
            grid: { stroke: c.line, width: 1 },
            ticks: { show: false },
            space: 48,
            values: (_u, s) =>
              s.map((v) =>
                id === "visit_duration" || id === "bounce_rate"
                  ? metric(id, v)
                  : Number.isInteger(v)
                    ? short(v)
                    : v.toFixed(1),
              ),
          },
        ],
        series: [
          {},
          { stroke: c.past, width: 1.5, dash: [2, 4], points: { show: false } },
          {
            stroke: c.accent,
            width: 2,
            dash: [5, 4],
            points: {
              show: growing >= 0,
              size: 7,
              fill: c.card,
              stroke: c.accent,
              filter: (u) => [u.data[2]?.findLastIndex((v) => v !== null) ?? 0],
            },
          },
          {
            stroke: c.accent,
            width: 2,
            fill: `color-mix(in oklch, ${c.accent} 10%, transparent)`,
            points: dots,
          },
        ],
        hooks: {
          setCursor: [
            (u) => {
              const i = u.cursor.idx;
              setTip(
                i == null || (u.cursor.left ?? -1) < 0 ? null : { left: u.valToPos(i, "x") + 48, index: i },
              );
            },
          ],
        },
      },
      [xs, past, tail, settled],
      el,
    );
    const resize = new ResizeObserver(() => plot.setSize({ width: el.clientWidth, height: HEIGHT }));
    resize.observe(el);
    return () => {
      resize.disconnect();
      plot.destroy();
    };
  }, [key]);
  const at = tip ? buckets[tip.index] : undefined;
  const value = (v: number | null | undefined) => (v == null ? "–" : metric(id, v));
  return (
    <figure className="relative m-0">
      <figcaption className="sr-only">{name} over time</figcaption>
      <div ref={box} aria-hidden style={{ height: HEIGHT }} className="overflow-hidden" />
      {tip && at && (
        <div
          aria-hidden
          className="pointer-events-none absolute top-2 z-10 rounded border border-line bg-card px-3 py-2 text-xs whitespace-nowrap"
          style={
            tip.left > (box.current?.clientWidth ?? 0) / 2
              ? { right: `calc(100% - ${tip.left - 12}px)` }
              : { left: tip.left + 12 }
          }
        >
          <div className="text-soft">
            {grain === "time:hour" ? at.slice(0, 16) : bucketLabel(at, grain)}
            {tip.index === growing && " · still growing"}
          </div>
          <div className="mt-1 text-sm font-semibold">
            {value(values[tip.index])} <span className="font-normal text-soft">{name.toLowerCase()}</span>
          </div>
          <div className="text-soft">{value(past[tip.index])} the period before</div>
        </div>
      )}
      <div className="sr-only">
        <table>
          <caption>{name} over time</caption>
          <tbody>
            {buckets.map((b, i) => (
              <tr key={b}>
                <th scope="row">{b}</th>
                <td>{value(values[i])}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}
