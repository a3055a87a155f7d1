/**
 * What a live stream has told so far, as a value, and how each frame changes it. No clock, no network and no view is in here: see stream.ts
 * for whether it is still true.
 */
import type { components } from "../api.gen";

/** A filtered stream counts the visitors whose newest page (source, country, device) is this one. */
export interface Filter {
  page?: string;
  source?: string;
  country?: string;
  device?: string;
}

export type Second = components["schemas"]["Second"];
export type Now = components["schemas"]["Now"];
/** A filtered stream's frames say their filter, and have neither a second nor lists. */
export type Frame = components["schemas"]["Frame"] & { filter?: Filter; upper_bound?: boolean };
export type Snapshot = Frame & { seconds?: Second[] };

/** A second in the chart. `merged`: only the sum of its span is known, and this is its even share. */
export type Bar = Second & { merged?: true };

/** How many seconds the chart shows. */
export const SPAN = 300;
const KEPT = SPAN + 10;

export interface Model {
  visitors: number | null;
  /** The visitors are this many or fewer. */
  upperBound: boolean;
  /** Log time of the newest numbers, ms; 0 while there are none. */
  timestamp: number;
  /** Seconds of the last five minutes by unix second; one without an event is absent. */
  seconds: ReadonlyMap<number, Bar>;
  /** The newest final second that was given, and the newest that has events. */
  final: number;
  newest: Second | null;
  now: Now | null;
  /** Frames that the server left out because this reader was slow. */
  skipped: number;
  /** From here on the seconds are complete; before it they are unknown. */
  known: number;
}

export const empty: Model = {
  visitors: null,
  upperBound: false,
  timestamp: 0,
  seconds: new Map(),
  final: 0,
  newest: null,
  now: null,
  skipped: 0,
  known: 0,
};

const unix = (iso: string) => Math.floor(Date.parse(iso) / 1000);
const first = (s: Second) => unix(s.from ?? s.at);

/** The frame adds up several seconds, so that it can't say what each of them had. */
export const isMerged = (f: Frame) => f.second !== undefined && first(f.second) < unix(f.second.at);

/** Takes a snapshot: the last five minutes after nothing or a reset (fresh), else what came since the id that was asked for. */
export function takeSnapshot(m: Model, f: Snapshot, fresh: boolean): Model {
  const base = fresh ? { ...empty, skipped: m.skipped } : m;
  // A stream goes on from before the first merged second, so that the snapshot has the true ones.
  const seconds = new Map([...base.seconds].filter(([, s]) => !s.merged));
  const told = f.second ? unix(f.second.at) : base.final;
  const final = seconds.size < base.seconds.size ? told : Math.max(told, base.final);
  for (const s of f.seconds ?? []) put(seconds, s, final);
  return {
    ...common(base, f),
    seconds: trim(seconds, final),
    final,
    newest: later(base.newest, f.seconds?.at(-1) ?? f.second),
    known: fresh ? final - SPAN : base.known,
  };
}

/** Takes a frame. The same one twice, or an old one, changes nothing. */
export function takeFrame(m: Model, f: Frame): Model {
  const next = common(m, f);
  const s = f.second;
  if (!s) return next;
  const at = unix(s.at);
  const seconds = new Map(m.seconds);
  if (isMerged(f)) spread(seconds, s, first(s), at);
  else put(seconds, s, m.final);
  const final = s.final ? Math.max(m.final, at) : m.final;
  return { ...next, seconds: trim(seconds, Math.max(final, at)), final, newest: later(m.newest, s) };
}

function common(m: Model, f: Frame): Model {
  const timestamp = Date.parse(f.timestamp);
  const news = timestamp > m.timestamp || (f.second !== undefined && unix(f.second.at) > m.final);
  const skipped = m.skipped + (news ? f.skipped : 0);
  // Another instance may be a little behind, and then its numbers are older than those that are shown.
  if (!(timestamp >= m.timestamp)) return { ...m, skipped };
  return {
    ...m,
    visitors: f.visitors,
    upperBound: f.upper_bound === true,
    timestamp,
    now: f.now ?? m.now,
    skipped,
  };
}

function later(a: Second | null, b: Second | undefined): Second | null {
  if (!a || !b) return b ?? a;
  const apart = unix(a.at) - unix(b.at);
  return apart > 0 || (apart === 0 && a.final) ? a : b;
}

/** Seconds older than the chart go. */
function trim(seconds: Map<number, Bar>, newest: number): Map<number, Bar> {
  for (const at of seconds.keys()) if (at < newest - KEPT) seconds.delete(at);
  return seconds;
}

/** A final second never changes, and a provisional one only counts up until it is final. */
function put(seconds: Map<number, Bar>, s: Second, final: number): void {
  const at = unix(s.at);
  const old = seconds.get(at);
  if (old?.final && !old.merged) return;
  if (!s.final && (at <= final || (s.revision ?? 0) < (old?.revision ?? 0))) return;
  if (s.events > 0 || old) seconds.set(at, s);
}

/** The sum of merged seconds is known, their shares are not: what the known ones leave over is spread evenly over the others. */
function spread(seconds: Map<number, Bar>, sum: Second, from: number, to: number): void {
  const start = Math.max(from, to - KEPT);
  const part = (to - start + 1) / (to - from + 1);
  const left = {
    pageviews: Math.round(sum.pageviews * part),
    visitors: Math.round(sum.visitors * part),
    events: Math.round(sum.events * part),
  };
  const open: number[] = [];
  for (let at = start; at <= to; at++) {
    const s = seconds.get(at);
    if (!s?.final || s.merged) {
      open.push(at);
      continue;
    }
    left.pageviews -= s.pageviews;
    left.visitors -= s.visitors;
    left.events -= s.events;
  }
  open.forEach((at, i) => {
    const share = (x: number) => {
      const whole = Math.max(0, x);
      return Math.floor((whole * (i + 1)) / open.length) - Math.floor((whole * i) / open.length);
    };
    const bar: Bar = {
      at: new Date(at * 1000).toISOString(),
      pageviews: share(left.pageviews),
      visitors: share(left.visitors),
      events: share(left.events),
      final: true,
      merged: true,
    };
    if (bar.events > 0) seconds.set(at, bar);
    else seconds.delete(at);
  });
}
