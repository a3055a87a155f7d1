/** What the charts share: the life of a uPlot in an element, its axes, and the tip beside its cursor. */
import type { ReactNode } from "react";
import uPlot from "uplot";
import { classes } from "../classes";
import { themeColors } from "./colors";

/** Makes a chart as wide as its element. The returned function removes it. */
export function mountPlot(
  element: HTMLElement,
  options: Omit<uPlot.Options, "width">,
  data: uPlot.AlignedData,
): { plot: uPlot; unmount: () => void } {
  const plot = new uPlot({ ...options, width: element.clientWidth }, data, element);
  const resize = new ResizeObserver(() =>
    plot.setSize({ width: element.clientWidth, height: options.height }),
  );
  resize.observe(element);
  return {
    plot,
    unmount: () => {
      resize.disconnect();
      plot.destroy();
    },
  };
}

/** Axes in the theme's colours; only the y axis has a grid. */
export function plotAxes(x: uPlot.Axis, y: uPlot.Axis): uPlot.Axis[] {
  const { soft, line } = themeColors();
  const common = { stroke: soft, font: "12px system-ui, sans-serif", ticks: { show: false } };
  return [
    { ...common, grid: { show: false }, ...x },
    { ...common, grid: { stroke: line, width: 1 }, space: 48, ...y },
  ];
}

interface TipProps {
  /** Position of the cursor, px from the left of the plotting area. */
  left: number;
  /** Distance of the tip from the cursor on either side, px from the left of the chart. */
  offsets: { before: number; after: number };
  chartWidth: number;
  className: string;
  children: ReactNode;
}

/** A tip on the side of the cursor that has more room. */
export function PlotTip({ left, offsets, chartWidth, className, children }: TipProps) {
  const isRightHalf = left > chartWidth / 2;
  return (
    <div
      aria-hidden
      className={classes(
        "pointer-events-none absolute z-10 rounded border border-line bg-card text-xs whitespace-nowrap",
        className,
      )}
      style={
        isRightHalf ? { right: `calc(100% - ${left + offsets.before}px)` } : { left: left + offsets.after }
      }
    >
      {children}
    </div>
  );
}
