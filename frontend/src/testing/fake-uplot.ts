/** Replaces uPlot in tests; see the alias in vite.config.ts. */
import type uPlot from "uplot";

export const plots: FakePlot[] = [];

/** A plot that keeps what it was given. A pixel of it is one unit of its x axis. */
export default class FakePlot {
  static paths = { bars: () => () => null };
  readonly cursor: { idx: number | null; left: number } = { idx: null, left: -10 };
  readonly width = 800;
  destroyed = false;

  constructor(
    readonly options: uPlot.Options,
    public data: uPlot.AlignedData,
  ) {
    plots.push(this);
  }

  /** Moves the cursor to an index of the data; null moves it away. */
  pointAt(index: number | null) {
    this.cursor.idx = index;
    this.cursor.left = index ?? -10;
    for (const hook of this.options.hooks?.setCursor ?? []) hook?.(this as unknown as uPlot);
  }

  setData(data: uPlot.AlignedData) {
    this.data = data;
  }
  setScale() {}
  setSize() {}
  batch(change: () => void) {
    change();
  }
  valToPos(value: number) {
    return value;
  }
  destroy() {
    this.destroyed = true;
  }
}
