import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { formatExact, formatTime } from "../format";
import { CHART_SECONDS, type ChartSecond, type Model } from "../live/model";
import { hatchPattern, themeColors } from "./colors";
import { mountPlot, PlotTip, plotAxes } from "./plot";

const HEIGHT = 176;
const REDRAW_INTERVAL = 250; // ms; at three pixels a second a bar moves less than a pixel
const MAX_EXTRAPOLATION = 3_000; // ms
const TABLE_SECONDS = 10;

interface Props {
  model: Model;
  timezone: string;
  /** The numbers are old: the chart is pale and stands still. */
  dimmed: boolean;
  theme: string;
}

/** Reports whether the model knows the second's value, 0 included. */
function isKnown(m: Model, at: number, s: ChartSecond | undefined): boolean {
  return at >= m.completeFrom && (s !== undefined || at <= m.finalThrough);
}

/** The chart's columns up to a second: times, final values, provisional values. Unknown values are null. */
export function chartColumns(m: Model, end: number): [number[], (number | null)[], (number | null)[]] {
  const times: number[] = [];
  const final: (number | null)[] = [];
  const provisional: (number | null)[] = [];
  for (let at = end - CHART_SECONDS - 2; at <= end; at++) {
    const s = m.seconds.get(at);
    times.push(at);
    final.push(!isKnown(m, at, s) || s?.final === false ? null : (s?.pageviews ?? 0));
    provisional.push(s && !s.final ? s.pageviews : null);
  }
  return [times, final, provisional];
}

/**
 * Page views by the second: final ones solid, provisional ones hatched. The right edge is the present by the
 * log's time. Between frames it moves on by this machine's clock.
 */
export function LiveChart({ model, timezone, dimmed, theme }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef({ model, arrivedAt: 0, dimmed });
  const [tip, setTip] = useState<{ left: number; text: string } | null>(null);
  if (latest.current.model.timestamp !== model.timestamp) latest.current.arrivedAt = performance.now();
  latest.current.model = model;
  latest.current.dimmed = dimmed;

  // biome-ignore lint/correctness/useExhaustiveDependencies: the plot keeps the colours of its theme
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const onCursor = (u: uPlot) => {
      const i = u.cursor.idx;
      const at = i == null ? undefined : u.data[0][i];
      if (at === undefined || (u.cursor.left ?? -1) < 0) setTip(null);
      else setTip({ left: u.valToPos(at, "x"), text: describeSecond(latest.current.model, at, timezone) });
    };
    const { plot, unmount } = mountPlot(
      element,
      {
        height: HEIGHT,
        padding: [8, 0, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
        scales: {
          x: { time: false, auto: false },
          y: { range: (_u, _min, max) => [0, Math.max(4, (max ?? 0) * 1.1)] },
        },
        axes: liveAxes(),
        series: liveSeries(),
        hooks: { setCursor: [onCursor] },
      },
      [[], [], []],
    );
    const draw = () => {
      if (document.hidden) return;
      const { model: m, arrivedAt, dimmed: still } = latest.current;
      const elapsed = still ? 0 : Math.min(performance.now() - arrivedAt, MAX_EXTRAPOLATION);
      const end = (m.timestamp ? m.timestamp + elapsed : Date.now()) / 1000;
      plot.batch(() => {
        plot.setData(chartColumns(m, Math.floor(end)), false);
        plot.setScale("x", { min: end - CHART_SECONDS, max: end + 0.5 }); // a bar is centred on its second
      });
    };
    draw();
    const timer = setInterval(draw, REDRAW_INTERVAL);
    return () => {
      clearInterval(timer);
      unmount();
    };
  }, [theme, timezone]);

  return (
    <figure className={`relative m-0 transition-opacity duration-150 ${dimmed ? "opacity-50" : ""}`}>
      <figcaption className="sr-only">Page views of the last five minutes, a bar a second.</figcaption>
      <div ref={box} aria-hidden style={{ height: HEIGHT }} className="overflow-hidden" />
      {tip && (
        <PlotTip
          left={tip.left}
          offsets={{ before: 24, after: 44 }}
          chartWidth={box.current?.clientWidth ?? 0}
          className="top-0 px-2 py-1"
        >
          {tip.text}
        </PlotTip>
      )}
      <LastSeconds model={model} timezone={timezone} />
    </figure>
  );
}

function describeSecond(m: Model, at: number, timezone: string): string {
  const time = formatTime(at * 1000, timezone);
  const s = m.seconds.get(at);
  if (!isKnown(m, at, s)) return `${time} · not known yet`;
  const views = formatExact(s?.pageviews ?? 0);
  const people = formatExact(s?.visitors ?? 0);
  return `${time} · ${views} views · ${people} people · ${s && !s.final ? "provisional" : "final"}`;
}

function liveAxes(): uPlot.Axis[] {
  const minutesAgo = (width: number) => (width < 420 ? [4, 2] : [4, 3, 2, 1]);
  return plotAxes(
    {
      size: 24,
      gap: 4,
      splits: (u, _i, _min, max) => minutesAgo(u.width).map((m) => max - 60 * m),
      values: (u) => minutesAgo(u.width).map((m) => `−${m} min`),
    },
    {
      size: 36,
      gap: 4,
      incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5],
    },
  );
}

/** The series in the order of the data: final, provisional. */
function liveSeries(): uPlot.Series[] {
  const { accent } = themeColors();
  const paths = uPlot.paths.bars?.({ size: [0.72, 8, 1] });
  const pattern = hatchPattern(accent);
  return [
    {},
    { fill: accent, width: 0, paths, points: { show: false } },
    { fill: () => pattern as string, stroke: accent, width: 1, paths, points: { show: false } },
  ];
}

/** The newest seconds as a table for screen readers. */
function LastSeconds({ model, timezone }: { model: Model; timezone: string }) {
  return (
    <div className="sr-only">
      <table>
        <caption>Page views by the second, the last ten seconds</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Views</th>
            <th scope="col">People</th>
          </tr>
        </thead>
        <tbody>
          {Array.from({ length: TABLE_SECONDS }, (_, i) => model.finalThrough - i).map((at) => (
            <tr key={at}>
              <td>{formatTime(at * 1000, timezone)}</td>
              <td>{model.seconds.get(at)?.pageviews ?? 0}</td>
              <td>{model.seconds.get(at)?.visitors ?? 0}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
