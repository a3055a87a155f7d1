/**
 * The reducer of a live stream: the model is a value, and each snapshot or frame makes the next one.
 *
 * It is pure: it reads no clock, no network and no view. stream.ts decides when the model is stale.
 */
import type { components } from "../api.gen";

export type Second = components["schemas"]["Second"];
export type Now = components["schemas"]["Now"];
/** A frame of a filtered stream names its filter, and has neither a second nor lists. */
export type Frame = components["schemas"]["Frame"];
/** The visitors of a filtered stream: those whose newest page (source, country, device) has this value. */
export type Filter = NonNullable<Frame["filter"]>;
export type Snapshot = Frame & { seconds?: Second[]; cut?: { after: string; at: string } };

/** A second of the chart. `merged` marks an even share of a merged frame, whose sum alone is exact. */
export type ChartSecond = Second & { merged?: true };

/** Length of the chart in seconds. */
export const CHART_SECONDS = 300;
/** The chart scrolls between frames, so that it shows a few seconds more than its length. */
const KEPT_SECONDS = CHART_SECONDS + 10;

export interface Model {
  /** Active visitors; null before the first frame. */
  visitors: number | null;
  /** `visitors` is an upper bound: the server can't tell how many of them match the filter. */
  upperBound: boolean;
  /** `visitors` and `now` lack visitors: a part of the pipeline stands still, and the server goes on without it. */
  incomplete: boolean;
  /** The log has lost records with a loss of power: some seconds between two moments (ms) may lack views. */
  cut: { after: number; at: number } | null;
  /** Log time of the newest numbers, ms; 0 before the first frame. */
  timestamp: number;
  /** Seconds by unix time, for at least the last five minutes. A second without an event is absent. */
  seconds: ReadonlyMap<number, ChartSecond>;
  /** Unix time of the newest final second, with or without events. */
  finalThrough: number;
  /** The newest second received, provisional or final. */
  newestSecond: Second | null;
  /** Where the active visitors are: top pages, sources, countries and devices. */
  now: Now | null;
  /** Frames that the server left out because this client read too slowly. */
  skipped: number;
  /** Unix time from which `seconds` is complete. Earlier seconds are unknown. */
  completeFrom: number;
}

export const emptyModel: Model = {
  visitors: null,
  upperBound: false,
  incomplete: false,
  cut: null,
  timestamp: 0,
  seconds: new Map(),
  finalThrough: 0,
  newestSecond: null,
  now: null,
  skipped: 0,
  completeFrom: 0,
};

const unixTime = (iso: string) => Math.floor(Date.parse(iso) / 1000);
const firstSecond = (s: Second) => unixTime(s.from ?? s.at);

/** Reports whether the frame sums up several seconds. Such a frame doesn't say what each of them had. */
export const isMerged = (f: Frame) => f.second !== undefined && firstSecond(f.second) < unixTime(f.second.at);

/**
 * Applies a snapshot. With `replace`, for the first one and the one after a reset, it replaces the model.
 * Otherwise it adds the seconds after the id that the client resumed from.
 */
export function applySnapshot(m: Model, f: Snapshot, replace: boolean): Model {
  const base = replace ? { ...emptyModel, skipped: m.skipped } : m;
  // The client resumes from before the first merged second, so that the snapshot has the exact values of all.
  const seconds = new Map([...base.seconds].filter(([, s]) => !s.merged));
  const snapshotThrough = f.second ? unixTime(f.second.at) : base.finalThrough;
  const hadMerged = seconds.size < base.seconds.size;
  const finalThrough = hadMerged ? snapshotThrough : Math.max(snapshotThrough, base.finalThrough);
  for (const s of f.seconds ?? []) setSecond(seconds, s, finalThrough);
  return {
    ...applyNumbers(base, f),
    cut: f.cut ? { after: Date.parse(f.cut.after), at: Date.parse(f.cut.at) } : base.cut,
    seconds: trim(seconds, finalThrough),
    finalThrough,
    newestSecond: newer(base.newestSecond, f.seconds?.at(-1) ?? f.second),
    completeFrom: replace ? finalThrough - CHART_SECONDS : base.completeFrom,
  };
}

/** Applies a frame. It is idempotent: a duplicate or an outdated frame changes nothing. */
export function applyFrame(m: Model, f: Frame): Model {
  const next = applyNumbers(m, f);
  const s = f.second;
  if (!s) return next;
  const at = unixTime(s.at);
  const seconds = new Map(m.seconds);
  if (isMerged(f)) distribute(seconds, s, firstSecond(s), at);
  else setSecond(seconds, s, m.finalThrough);
  const finalThrough = s.final ? Math.max(m.finalThrough, at) : m.finalThrough;
  return {
    ...next,
    seconds: trim(seconds, Math.max(finalThrough, at)),
    finalThrough,
    newestSecond: newer(m.newestSecond, s),
  };
}

/** Applies what every frame has: visitors, lists, and the count of skipped frames. */
function applyNumbers(m: Model, f: Frame): Model {
  const timestamp = Date.parse(f.timestamp);
  const isNew = timestamp > m.timestamp || (f.second !== undefined && unixTime(f.second.at) > m.finalThrough);
  const skipped = m.skipped + (isNew ? f.skipped : 0);
  // After a reconnection another instance may answer, whose numbers are a little older than those shown.
  if (!(timestamp >= m.timestamp)) return { ...m, skipped };
  const upperBound = f.upper_bound === true;
  const incomplete = f.incomplete === true;
  return { ...m, visitors: f.visitors, upperBound, incomplete, timestamp, now: f.now ?? m.now, skipped };
}

function newer(a: Second | null, b: Second | undefined): Second | null {
  if (!a || !b) return b ?? a;
  const difference = unixTime(a.at) - unixTime(b.at);
  return difference > 0 || (difference === 0 && a.final) ? a : b;
}

/** Deletes the seconds that are older than the chart. */
function trim(seconds: Map<number, ChartSecond>, newest: number): Map<number, ChartSecond> {
  for (const at of seconds.keys()) if (at < newest - KEPT_SECONDS) seconds.delete(at);
  return seconds;
}

/** Sets a second by its revision: a final second never changes, and a provisional one only counts up. */
function setSecond(seconds: Map<number, ChartSecond>, s: Second, finalThrough: number): void {
  const at = unixTime(s.at);
  const old = seconds.get(at);
  if (old?.final && !old.merged) return;
  if (!s.final && (at <= finalThrough || (s.revision ?? 0) < (old?.revision ?? 0))) return;
  if (s.events > 0 || old) seconds.set(at, s);
}

/**
 * Distributes the sum of merged seconds evenly over those of them that have no exact final value. The exact
 * values are subtracted first, so that the chart's total stays exact.
 */
function distribute(seconds: Map<number, ChartSecond>, sum: Second, from: number, to: number): void {
  const start = Math.max(from, to - KEPT_SECONDS);
  const keptPart = (to - start + 1) / (to - from + 1);
  const remaining = {
    pageviews: Math.round(sum.pageviews * keptPart),
    visitors: Math.round(sum.visitors * keptPart),
    events: Math.round(sum.events * keptPart),
  };
  const estimated: number[] = [];
  for (let at = start; at <= to; at++) {
    const s = seconds.get(at);
    if (!s?.final || s.merged) {
      estimated.push(at);
      continue;
    }
    remaining.pageviews -= s.pageviews;
    remaining.visitors -= s.visitors;
    remaining.events -= s.events;
  }
  estimated.forEach((at, i) => {
    // Differences of rounded-down cumulative sums: whole numbers whose total is exactly the sum.
    const share = (x: number) => {
      const total = Math.max(0, x);
      return Math.floor((total * (i + 1)) / estimated.length) - Math.floor((total * i) / estimated.length);
    };
    const second: ChartSecond = {
      at: new Date(at * 1000).toISOString(),
      pageviews: share(remaining.pageviews),
      visitors: share(remaining.visitors),
      events: share(remaining.events),
      final: true,
      merged: true,
    };
    if (second.events > 0) seconds.set(at, second);
    else seconds.delete(at);
  });
}
