/**
 * The live stream of one or several sites, independent of any view.
 *
 * An EventSource ends for good on an HTTP error, and hides the status, the server's retry, heartbeats and
 * staleness. LiveStream reads the stream by fetch instead. It reconnects after every failure and resumes from
 * the newest id, so that no second is missed or counted twice. README.md lists what it recovers from.
 */
import {
  applyFrame,
  applySnapshot,
  emptyModel,
  type Filter,
  type Frame,
  isMerged,
  type Model,
  type Snapshot,
} from "./model";
import { type Message, Parser } from "./sse";

/** State of the connection. `retryAt` is of the monotonic clock (performance.now), ms. */
export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting"; retryAt: number }
  /** The server is at a limit of connections, and says when to retry. */
  | { state: "busy"; retryAt: number }
  /** Connected without new numbers: those shown are of this log time, ms. */
  | { state: "stale"; since: number }
  /** Not authorized (401, 403), unknown site (404) or invalid request (400). The stream still retries. */
  | { state: "refused"; status: number; retryAt: number };

export interface Live {
  /** The first site's model, which is all that a stream of one site needs. */
  model: Model;
  /** The models by site, with the names of `Options.sites`. */
  models: ReadonlyMap<string, Model>;
  connection: Connection;
  /** Age of the numbers on arrival over the last minute, ms: median and 99th percentile. */
  delay: { p50: number; p99: number } | null;
}

export interface Options {
  sites: readonly string[];
  filter?: Filter;
  /** Interval of frames while the tab is visible; 250ms by default. */
  rate?: "100ms" | "250ms" | "1s" | "5s";
  /** Values in each list; 10 by default, 0 for no lists. */
  top?: number;
  /** Origin of Nowcast; the page's own by default. */
  server?: string;
  /** Request headers, such as `{ Authorization: "Bearer nck_…" }`. */
  headers?: Record<string, string>;
}

/** Clocks, network and randomness, so that tests can replace them. */
export interface Environment {
  /** Monotonic clock, ms. */
  monotonic(): number;
  /** Wall clock, ms since the epoch. */
  wallClock(): number;
  fetch(url: string, init: RequestInit): Promise<Response>;
  /** Uniform in [0, 1). */
  random(): number;
}

export const browserEnvironment: Environment = {
  monotonic: () => performance.now(),
  wallClock: () => Date.now(),
  fetch: (url, init) => fetch(url, init),
  random: () => Math.random(),
};

// All times are in ms.
const STALE_AFTER = 3_500; // without new numbers, which normally come four times a second
const STALE_AFTER_AT_5S = STALE_AFTER + 6_000; // with a frame every five seconds
const HEARTBEAT_TIMEOUT = 25_000; // the server sends a heartbeat after 15 s of silence
const RESPONSE_TIMEOUT = 15_000; // until the response's headers
const SLEEP_THRESHOLD = 10_000; // a timer so late, or clocks that differ so much: the machine slept
const STABLE_AFTER = 5_000; // a connection so old resets the backoff
const MIN_BACKOFF = 500;
const MAX_BACKOFF = 10_000;
const MAX_BACKOFF_REFUSED = 60_000;
const MAX_SERVER_RETRY = 300_000; // limit of the server's retry and Retry-After
const MAX_CLOCK_SKEW = 2_000; // a larger skew is corrected by the server's Date
const MAX_PLAUSIBLE_DELAY = 60_000;
const DELAY_WINDOW = 60_000;

/** A connection attempt, from the request to its end. */
interface Attempt {
  abort: AbortController;
  startedAt: number;
  opened: boolean;
  frames: number;
  serverRetry: number | null; // the last retry or Retry-After, ms
}

/**
 * The id to resume from. A merged frame makes it inexact, and it stays where it is: a later id would skip the
 * exact values of the merged seconds.
 */
interface ResumePoint {
  id: string;
  second: number;
  exact: boolean;
}

type End = { state: "reconnecting" } | { state: "busy" } | { state: "refused"; status: number };

const connectionLost: End = { state: "reconnecting" };

export class LiveStream {
  private live: Live;
  private attempt: Attempt | null = null;
  private resumePoints = new Map<string, ResumePoint>();
  private awaitingSnapshot: Set<string>; // sites whose next snapshot replaces their model
  private lastReadAt = 0;
  private numbersArrivedAt = 0;
  private clockOffset = 0; // from the monotonic clock to the true time
  private clockVerified = false; // the server's Date confirmed clockOffset
  private lastTick = { monotonic: 0, wallClock: 0 };
  private backoff = MIN_BACKOFF;
  private earliestRetry = 0; // no attempt before, as the server asked
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private ticker: ReturnType<typeof setInterval> | undefined;
  private delays: { at: number; ms: number }[] = [];
  private hidden = false;

  /** Throws if `options.sites` is empty. */
  constructor(
    private readonly options: Options,
    private readonly onChange: (live: Live) => void,
    private readonly env: Environment = browserEnvironment,
  ) {
    if (options.sites.length === 0) throw new Error("follow sites: give at least one");
    this.live = initialLive(options);
    this.awaitingSnapshot = new Set(options.sites);
  }

  start(): void {
    this.lastTick = { monotonic: this.env.monotonic(), wallClock: this.env.wallClock() };
    this.ticker = setInterval(() => this.tick(), 1_000);
    void this.connect();
  }

  stop(): void {
    clearInterval(this.ticker);
    clearTimeout(this.retryTimer);
    this.ticker = undefined;
    this.attempt?.abort.abort();
    this.attempt = null;
  }

  /**
   * Reconnects at the rate of a hidden or a visible tab. For a visible tab, the server also sends the exact
   * values of the seconds that it merged before.
   */
  setHidden(hidden: boolean): void {
    if (hidden === this.hidden) return;
    const wasStale = this.isStale();
    this.hidden = hidden;
    if (!hidden && wasStale && this.live.connection.state === "live")
      this.update({ connection: this.staleConnection() });
    if (this.attempt) void this.connect();
    else if (!hidden) this.retryNow();
  }

  /** Ends the pause before the next attempt, as far as the server allows. An open connection stays. */
  retryNow(): void {
    this.backoff = MIN_BACKOFF;
    if (this.attempt || !this.ticker) return;
    const remaining = this.earliestRetry - this.env.monotonic();
    if (remaining > 0) this.scheduleRetry(remaining, this.live.connection);
    else void this.connect();
  }

  /** Replaces an open connection, which may be dead after a change of network or a sleep; else retryNow. */
  reconnect(): void {
    if (this.attempt) void this.connect();
    else this.retryNow();
  }

  private update(change: Partial<Live>): void {
    this.live = { ...this.live, ...change };
    try {
      this.onChange(this.live);
    } catch (e) {
      console.error(e); // an error of the view must not end the connection
    }
  }

  private url(): string {
    const { sites, filter, rate = "250ms", top, server } = this.options;
    const query = new URLSearchParams(sites.map((s) => ["site", s]));
    query.set("rate", this.hidden ? "5s" : rate);
    if (top !== undefined) query.set("top", String(top));
    for (const [name, value] of Object.entries(filter ?? {})) if (value !== undefined) query.set(name, value);
    // One id serves all sites. With the oldest one no site misses a second; duplicates change nothing.
    const [oldest] = [...this.resumePoints.values()].sort((a, b) => a.second - b.second);
    if (oldest && this.resumePoints.size === sites.length) query.set("lastEventId", oldest.id);
    else this.awaitingSnapshot = new Set(sites);
    return `${server ?? ""}/api/events?${query}`;
  }

  private async connect(): Promise<void> {
    clearTimeout(this.retryTimer);
    this.attempt?.abort.abort();
    const now = this.env.monotonic();
    const a: Attempt = {
      abort: new AbortController(),
      startedAt: now,
      opened: false,
      frames: 0,
      serverRetry: null,
    };
    this.attempt = a;
    this.lastReadAt = now;
    this.clockOffset = this.env.wallClock() - now;
    let end = connectionLost;
    try {
      end = await this.read(a);
    } catch {
      // A network error and a response that isn't a stream of Nowcast both count as a lost connection.
    }
    if (a !== this.attempt) return;
    a.abort.abort();
    this.onEnd(a, end);
  }

  /** Reads the stream to its end. It throws on a network error and on text that is no frame. */
  private async read(a: Attempt): Promise<End> {
    const response = await this.env.fetch(this.url(), {
      headers: { Accept: "text/event-stream", ...this.options.headers },
      cache: "no-store",
      signal: a.abort.signal,
    });
    if (a !== this.attempt) return connectionLost;
    const { status, headers, body } = response;
    const retryAfter = Number(headers.get("Retry-After") ?? "");
    if (retryAfter > 0) a.serverRetry = retryAfter * 1_000;
    if ([204, 400, 401, 403, 404].includes(status)) return { state: "refused", status };
    if (status === 429) return { state: "busy" };
    const isStream = headers.get("Content-Type")?.startsWith("text/event-stream");
    if (status !== 200 || !body || !isStream) return connectionLost;
    a.opened = true;
    this.lastReadAt = this.env.monotonic();
    this.correctClock(Date.parse(headers.get("Date") ?? ""));
    const decoder = new TextDecoder();
    const parser = new Parser(
      (m) => a === this.attempt && this.onMessage(a, m),
      (ms) => {
        a.serverRetry = ms;
      },
    );
    for (const reader = body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (a !== this.attempt) return connectionLost;
      // A server at its limit sends 200, a retry and the end: an EventSource would give up on a 503.
      if (done) return a.frames === 0 && a.serverRetry !== null ? { state: "busy" } : connectionLost;
      this.lastReadAt = this.env.monotonic();
      parser.push(decoder.decode(value, { stream: true }));
    }
  }

  /** Corrects the clock by the response's Date, which has a resolution of one second. */
  private correctClock(date: number): void {
    const skew = date + 500 - this.env.wallClock();
    this.clockVerified = !Number.isNaN(date);
    if (Math.abs(skew) > MAX_CLOCK_SKEW) this.clockOffset += skew;
  }

  private onMessage(a: Attempt, m: Message): void {
    const { sites, filter } = this.options;
    if (m.event === "reset") {
      this.awaitingSnapshot = new Set(sites);
      return;
    }
    if (m.event !== "message" && m.event !== "snapshot") return;
    const f = JSON.parse(m.data) as Snapshot;
    const isFrameOf = (s: string) => s.toLowerCase() === f.site.toLowerCase();
    const site = sites.length === 1 ? sites[0] : sites.find(isFrameOf);
    const previous = site === undefined ? undefined : this.live.models.get(site);
    if (site === undefined || !previous) return;
    // A server that ignores the filter would send the numbers of all visitors.
    if (filter && !f.filter) throw new Error("read frame: the server doesn't filter");
    const now = this.env.monotonic();
    const replace = m.event === "snapshot" && this.awaitingSnapshot.delete(site);
    const model = m.event === "snapshot" ? applySnapshot(previous, f, replace) : applyFrame(previous, f);
    this.setResumePoint(site, m, f);
    a.frames++;
    if (now - a.startedAt > STABLE_AFTER) this.backoff = MIN_BACKOFF;
    if (replace || model.timestamp > previous.timestamp) {
      this.numbersArrivedAt = now;
      if (m.event === "message" && !this.hidden) this.addDelay(now, now + this.clockOffset - model.timestamp);
    }
    const models = new Map(this.live.models).set(site, model);
    const stale = this.isStale() || model.timestamp === 0;
    const connection: Connection = stale ? this.staleConnection() : { state: "live" };
    this.update({ ...withPrimaryModel(sites, models), delay: this.delayPercentiles(), connection });
  }

  /** Moves the resume point on to this message, unless seconds before it are only known merged. */
  private setResumePoint(site: string, m: Message, f: Frame): void {
    const old = this.resumePoints.get(site);
    if (!m.id || (m.event === "message" && old && !old.exact)) return;
    if (m.event === "message" && isMerged(f)) {
      if (old) this.resumePoints.set(site, { ...old, exact: false });
      return;
    }
    this.resumePoints.set(site, { id: m.id, second: Number(m.id.split("-")[1]), exact: true });
  }

  /**
   * Reports whether new numbers are overdue by the monotonic clock. Every stream, filtered or not, has a frame
   * with each final second, also where nothing changes.
   */
  private isStale(): boolean {
    const now = this.env.monotonic();
    const slow = this.hidden || this.options.rate === "5s";
    return now - this.numbersArrivedAt >= (slow ? STALE_AFTER_AT_5S : STALE_AFTER);
  }

  private staleConnection(): Connection {
    const timestamps = [...this.live.models.values()].map((m) => m.timestamp);
    return { state: "stale", since: Math.max(0, ...timestamps) };
  }

  /** Schedules the next attempt: exponential backoff with jitter, and never before the server's retry. */
  private onEnd(a: Attempt, end: End): void {
    this.attempt = null;
    const serverRetry = Math.min(Math.max(a.serverRetry ?? 0, MIN_BACKOFF), MAX_SERVER_RETRY);
    const backoff = Math.min(this.backoff, end.state === "refused" ? MAX_BACKOFF_REFUSED : MAX_BACKOFF);
    this.backoff = 2 * backoff;
    this.earliestRetry = this.env.monotonic() + serverRetry;
    const jitter = 1 + this.env.random() / 2; // only ever adds, so that the server's retry holds
    this.scheduleRetry(Math.max(serverRetry, backoff) * jitter, { ...end, retryAt: 0 });
  }

  private scheduleRetry(ms: number, connection: Connection): void {
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => void this.connect(), ms);
    const retryAt = this.env.monotonic() + ms;
    this.update({ connection: "retryAt" in connection ? { ...connection, retryAt } : connection });
  }

  /** Detects, once a second, a machine that slept, a silent connection, and stale numbers. */
  private tick(): void {
    const monotonic = this.env.monotonic();
    const wallClock = this.env.wallClock();
    const elapsed = monotonic - this.lastTick.monotonic;
    // Some machines stop the monotonic clock during sleep. A wall clock that was set looks the same,
    // and costs a reconnection.
    const slept = wallClock - this.lastTick.wallClock - elapsed > SLEEP_THRESHOLD;
    this.lastTick = { monotonic, wallClock };
    const a = this.attempt;
    const silence = monotonic - this.lastReadAt;
    if (slept && !a) this.retryNow();
    else if (slept || (a && elapsed > SLEEP_THRESHOLD && silence > SLEEP_THRESHOLD)) {
      this.update({ connection: { state: "reconnecting", retryAt: monotonic } });
      this.reconnect();
    } else if (a && silence > (a.opened ? HEARTBEAT_TIMEOUT : RESPONSE_TIMEOUT)) {
      a.abort.abort();
      this.onEnd(a, connectionLost);
    } else if (a && this.live.connection.state === "live" && this.isStale()) {
      this.update({ connection: this.staleConnection() });
    }
  }

  private addDelay(at: number, ms: number): void {
    // Without the server's Date, such a delay more likely comes from the clock of this machine.
    if (!this.clockVerified && Math.abs(ms) > MAX_PLAUSIBLE_DELAY) return;
    this.delays.push({ at, ms });
    while ((this.delays[0]?.at ?? at) < at - DELAY_WINDOW) this.delays.shift();
  }

  private delayPercentiles(): Live["delay"] {
    if (this.delays.length < 5) return null;
    const sorted = this.delays.map((d) => d.ms).sort((a, b) => a - b);
    const quantile = (q: number) => Math.max(0, sorted[Math.floor(q * (sorted.length - 1))] ?? 0);
    return { p50: quantile(0.5), p99: quantile(0.99) };
  }
}

const withPrimaryModel = (sites: readonly string[], models: ReadonlyMap<string, Model>) => ({
  models,
  model: models.get(sites[0] ?? "") ?? emptyModel,
});

/** The state of a stream before its first frame. */
export function initialLive({ sites }: Options): Live {
  return {
    ...withPrimaryModel(sites, new Map(sites.map((s) => [s, emptyModel]))),
    connection: { state: "connecting" },
    delay: null,
  };
}
