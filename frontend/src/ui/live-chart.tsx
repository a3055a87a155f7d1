import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import { clock, exact } from "../format";
import { CHART_SECONDS, type Model } from "../live/model";
import { colors, hatch } from "./colors";

interface Tip {
  left: number;
  text: string;
}

const HEIGHT = 176;

/** Minutes before now that the axis names. */
const marks = (width: number) => (width < 420 ? [4, 2] : [4, 3, 2, 1]);

/** The columns of the chart: times, final values, provisional values. Seconds that aren't known are null and stay blank. */
export function columns(m: Model, end: number): [number[], (number | null)[], (number | null)[]] {
  const times: number[] = [];
  const final: (number | null)[] = [];
  const open: (number | null)[] = [];
  for (let at = end - CHART_SECONDS - 2; at <= end; at++) {
    const s = m.seconds.get(at);
    const known = at >= m.completeFrom && (at <= m.finalThrough || s !== undefined);
    times.push(at);
    final.push(!known || s?.final === false ? null : (s?.pageviews ?? 0));
    open.push(s && !s.final ? s.pageviews : null);
  }
  return [times, final, open];
}

/**
 * Page views by the second: final ones solid, open ones hatched. The right edge is now by the log's clock; time moves, bars don't. It is
 * drawn four times a second, which at three pixels a second is less than a pixel each.
 */
export function LiveChart({
  model,
  timezone,
  dimmed,
  theme,
}: {
  model: Model;
  timezone: string;
  dimmed: boolean;
  theme: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef({ model, arrived: 0, dimmed });
  const [tip, setTip] = useState<Tip | null>(null);
  if (latest.current.model.timestamp !== model.timestamp) latest.current.arrived = performance.now();
  latest.current.model = model;
  latest.current.dimmed = dimmed;

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new theme has new colours, so the chart is made again
  useEffect(() => {
    const el = box.current;
    if (!el) return;
    const c = colors();
    const bars = uPlot.paths.bars?.({ size: [0.72, 8, 1] });
    const pattern = hatch(c.accent);
    const hover = (u: uPlot) => {
      const i = u.cursor.idx;
      const at = i == null ? undefined : u.data[0][i];
      if (i == null || at === undefined || (u.cursor.left ?? -1) < 0) return setTip(null);
      const s = latest.current.model.seconds.get(at);
      const known = at >= latest.current.model.completeFrom && (s || at <= latest.current.model.finalThrough);
      const what = !known
        ? "not known yet"
        : `${exact(s?.pageviews ?? 0)} views · ${exact(s?.visitors ?? 0)} people · ${s && !s.final ? "provisional" : "final"}`;
      setTip({ left: u.valToPos(at, "x"), text: `${clock(at * 1000, timezone)} · ${what}` });
    };
    const plot = new uPlot(
      {
        width: el.clientWidth,
        height: HEIGHT,
        padding: [8, 0, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
        scales: {
          x: { time: false, auto: false },
          y: { range: (_u, _min, max) => [0, Math.max(4, (max ?? 0) * 1.1)] },
        },
        axes: [
          {
            stroke: c.soft,
            font: "12px system-ui, sans-serif",
            size: 24,
            gap: 4,
            grid: { show: false },
            ticks: { show: false },
            splits: (u, _i, _min, max) => marks(u.width).map((m) => max - 60 * m),
            values: (u) => marks(u.width).map((m) => `−${m} min`),
          },
          {
            stroke: c.soft,
            font: "12px system-ui, sans-serif",
            size: 36,
            gap: 4,
            grid: { stroke: c.line, width: 1 },
            ticks: { show: false },
            incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5],
            space: 48,
          },
        ],
        series: [
          {},
          { fill: c.accent, width: 0, paths: bars, points: { show: false } },
          { fill: () => pattern as string, stroke: c.accent, width: 1, paths: bars, points: { show: false } },
        ],
        hooks: { setCursor: [hover] },
      },
      [[], [], []],
      el,
    );
    const draw = () => {
      if (document.hidden) return;
      const { model: m, arrived, dimmed: still } = latest.current;
      const now = m.timestamp
        ? m.timestamp + (still ? 0 : Math.min(performance.now() - arrived, 3_000))
        : Date.now();
      const end = now / 1000;
      plot.batch(() => {
        plot.setData(columns(m, Math.floor(end)), false);
        plot.setScale("x", { min: end - CHART_SECONDS, max: end + 0.5 }); // bars are centred on their second
      });
    };
    draw();
    const timer = setInterval(draw, 250);
    const resize = new ResizeObserver(() => plot.setSize({ width: el.clientWidth, height: HEIGHT }));
    resize.observe(el);
    return () => {
      clearInterval(timer);
      resize.disconnect();
      plot.destroy();
    };
  }, [theme, timezone]);

  const end = model.finalThrough;
  return (
    <figure className={`relative m-0 transition-opacity duration-150 ${dimmed ? "opacity-50" : ""}`}>
      <figcaption className="sr-only">Page views of the last five minutes, a bar a second.</figcaption>
      <div ref={box} aria-hidden style={{ height: HEIGHT }} className="overflow-hidden" />
      {tip && (
        <div
          aria-hidden
          className="pointer-events-none absolute top-0 z-10 rounded border border-line bg-card px-2 py-1 text-xs whitespace-nowrap"
          style={
            tip.left > (box.current?.clientWidth ?? 0) / 2
              ? { right: `calc(100% - ${tip.left + 24}px)` }
              : { left: tip.left + 44 }
          }
        >
          {tip.text}
        </div>
      )}
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
            {Array.from({ length: 10 }, (_, i) => end - i).map((at) => (
              <tr key={at}>
                <td>{clock(at * 1000, timezone)}</td>
                <td>{model.seconds.get(at)?.pageviews ?? 0}</td>
                <td>{model.seconds.get(at)?.visitors ?? 0}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </figure>
  );
}
