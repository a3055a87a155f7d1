import type { components } from "../api.gen";

export type Frame = components["schemas"]["Frame"];
export type Snapshot = components["schemas"]["Snapshot"];
export type Second = components["schemas"]["Second"];
export type Now = components["schemas"]["Now"];

/** How many seconds the chart shows. */
export const SPAN = 300;

/** What the stream has told so far. It holds no clock: see LiveStream for whether it is still true. */
export interface Model {
  visitors: number | null;
  /** Log time of the newest numbers, ms; 0 while there are none. */
  timestamp: number;
  /** Seconds of the last five minutes by unix second; one without an event is absent. */
  seconds: ReadonlyMap<number, Second>;
  /** The newest final second that was given, and the newest that has events. */
  final: number;
  newest: Second | null;
  now: Now | null;
  skipped: number;
  /** From here on the seconds are complete; before it they are unknown. */
  known: number;
}

export const empty: Model = {
  visitors: null,
  timestamp: 0,
  seconds: new Map(),
  final: 0,
  newest: null,
  now: null,
  skipped: 0,
  known: 0,
};

const unix = (iso: string) => Math.floor(Date.parse(iso) / 1000);

/** Seconds older than the chart go. */
function trim(seconds: Map<number, Second>, newest: number): Map<number, Second> {
  for (const at of seconds.keys()) if (at < newest - SPAN - 10) seconds.delete(at);
  return seconds;
}

function put(seconds: Map<number, Second>, s: Second): void {
  const at = unix(s.at);
  const old = seconds.get(at);
  // A final second never changes, and a provisional one only counts up.
  if (old?.final || (old && !s.final && (s.revision ?? 0) < (old.revision ?? 0))) return;
  if (s.events > 0 || old) seconds.set(at, s);
}

/** Takes a snapshot: the last five minutes after nothing or a reset, else what came since the last frame. */
export function takeSnapshot(m: Model, f: Snapshot, fresh: boolean): Model {
  const seconds = fresh ? new Map<number, Second>() : new Map(m.seconds);
  for (const s of f.seconds) put(seconds, s);
  const final = f.second ? unix(f.second.at) : m.final;
  return {
    ...common(m, f),
    seconds: trim(seconds, final),
    final: Math.max(final, fresh ? 0 : m.final),
    newest: f.seconds.at(-1) ?? f.second ?? m.newest,
    known: fresh ? final - SPAN : m.known,
  };
}

export function takeFrame(m: Model, f: Frame): Model {
  const next = common(m, f);
  const s = f.second;
  if (!s) return next;
  const at = unix(s.at);
  const seconds = new Map(m.seconds);
  if (s.from && s.to && s.from !== s.to) {
    // Merged seconds: their sum is known, their shares are not. They are shown spread evenly, as final.
    const from = unix(s.from);
    const n = at - from + 1;
    for (let i = 0; i < n; i++) {
      const share = (x: number) => Math.floor((x * (i + 1)) / n) - Math.floor((x * i) / n);
      const one = {
        ...s,
        at: new Date((from + i) * 1000).toISOString(),
        pageviews: share(s.pageviews),
        visitors: share(s.visitors),
        events: share(s.events),
      };
      seconds.delete(from + i);
      put(seconds, one);
    }
  } else {
    if (s.final) seconds.delete(at);
    put(seconds, s);
  }
  return {
    ...next,
    seconds: trim(seconds, at),
    final: s.final ? Math.max(m.final, at) : m.final,
    newest: s.final && m.newest && !m.newest.final && unix(m.newest.at) > at ? m.newest : s,
  };
}

function common(m: Model, f: Frame): Model {
  return {
    ...m,
    visitors: f.visitors,
    timestamp: Date.parse(f.timestamp),
    now: f.now ?? m.now,
    skipped: m.skipped + f.skipped,
  };
}
