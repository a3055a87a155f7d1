/**
 * The live stream of one or several sites, apart from any view.
 *
 * An EventSource gives up for good on any HTTP error, and hides the status, the server's retry, heartbeats and how stale it is. This reads
 * the stream by fetch and keeps its own time. Whatever happens it tries again, from the newest id, so that no second is missed or doubled.
 * README.md lists what it recovers from.
 */
import {
  empty,
  type Filter,
  type Frame,
  isMerged,
  type Model,
  type Snapshot,
  takeFrame,
  takeSnapshot,
} from "./model";
import { type Message, Parser } from "./sse";

/** Times named `at` are of the monotonic clock (performance.now), which nobody sets. */
export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting"; at: number }
  /** The server has no room now and says when to come again. */
  | { state: "busy"; at: number }
  /** Connected, but the numbers are of this log time, ms. */
  | { state: "stale"; since: number }
  /** No access (401, 403), no such site (404) or not understood (400); it asks again, in case that changes. */
  | { state: "refused"; status: number; at: number };

export interface Live {
  /** Of the first site: all that a stream of one site needs. */
  model: Model;
  /** Of all sites, by the names that were given. */
  models: ReadonlyMap<string, Model>;
  connection: Connection;
  /** Age of the newest numbers when they arrived, ms: median and 99th percentile of the last minute. */
  delay: { p50: number; p99: number } | null;
}

export interface Options {
  sites: readonly string[];
  filter?: Filter;
  /** While somebody looks; without it, four times a second. */
  rate?: "100ms" | "250ms" | "1s" | "5s";
  /** How many values each list has; 0: no lists. Without it, ten. */
  top?: number;
  /** Where Nowcast is; without it, where the page is from. */
  server?: string;
  /** As `{ Authorization: "Bearer nck_…" }`; a page of Nowcast's own has a cookie. */
  headers?: Record<string, string>;
}

/** What the stream needs from its surroundings, so that tests can give their own. */
export interface World {
  /** Monotonic, ms. */
  now(): number;
  /** Of the wall, ms. */
  wall(): number;
  fetch(url: string, init: RequestInit): Promise<Response>;
  random(): number;
}

export const browser: World = {
  now: () => performance.now(),
  wall: () => Date.now(),
  fetch: (url, init) => fetch(url, init),
  random: () => Math.random(),
};

const STALE = 3_500; // the log moves four times a second: so long without news means that it stands still
const SLOW = 6_000; // more, where a frame comes every five seconds
const SILENT = 25_000; // not even a heartbeat, which comes after 15 s: the connection is half dead
const OPENING = 15_000; // for an answer to begin
const ASLEEP = 10_000; // a timer of a second that is so late, or two clocks that differ so much: the machine slept
const STEADY = 5_000; // a connection that lasted so long was a good one
const FIRST = 500;
const LONGEST = 10_000;
const LONGEST_REFUSED = 60_000;
const LONGEST_RETRY = 300_000; // whatever the server says
const SKEW = 2_000; // the clock of this machine is wrong
const UNLIKELY = 60_000;

/** One attempt, from the request to its end. */
interface Attempt {
  abort: AbortController;
  begun: number;
  opened: boolean;
  frames: number;
  retry: number | null; // what the server said last
}

type End = { state: "reconnecting" } | { state: "busy" } | { state: "refused"; status: number };

const network: End = { state: "reconnecting" };

export class LiveStream {
  private live: Live;
  private attempt: Attempt | null = null;
  private ids = new Map<string, { id: string; second: number; exact: boolean }>();
  private fresh: Set<string>; // sites whose next snapshot replaces what is known
  private heard = 0; // when the connection last said anything
  private news = 0; // when the newest numbers arrived
  private offset = 0; // from the monotonic clock to the true time
  private checked = false; // by the server's
  private ticked = { now: 0, wall: 0 };
  private pause = FIRST;
  private earliest = 0; // the server doesn't want to be asked before
  private retry: ReturnType<typeof setTimeout> | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;
  private delays: { at: number; ms: number }[] = [];
  private hidden = false;

  constructor(
    private readonly options: Options,
    private readonly changed: (l: Live) => void,
    private readonly world: World = browser,
  ) {
    if (options.sites.length === 0) throw new Error("follow sites: give at least one");
    this.live = waiting(options);
    this.fresh = new Set(options.sites);
  }

  start(): void {
    this.ticked = { now: this.world.now(), wall: this.world.wall() };
    this.timer = setInterval(() => this.tick(), 1_000);
    void this.connect();
  }

  stop(): void {
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.timer = undefined;
    this.attempt?.abort.abort();
    this.attempt = null;
  }

  /** A hidden tab needs less; on return everything in between comes in one step. */
  setHidden(hidden: boolean): void {
    if (hidden === this.hidden) return;
    const old = this.old();
    this.hidden = hidden;
    if (!hidden && old && this.live.connection.state === "live") this.set({ connection: this.stale() });
    if (this.attempt) void this.connect();
    else if (!hidden) this.again();
  }

  /** Somebody looks, or asks: doesn't wait any longer than the server wants. A connection that is there stays. */
  again(): void {
    this.pause = FIRST;
    if (this.attempt || !this.timer) return;
    const early = this.earliest - this.world.now();
    if (early > 0) this.wait(early, this.live.connection);
    else void this.connect();
  }

  /** The network or the machine is back: a connection that is there may be dead without knowing it, so there is a new one. */
  renew(): void {
    if (this.attempt) void this.connect();
    else this.again();
  }

  private set(change: Partial<Live>): void {
    this.live = { ...this.live, ...change };
    try {
      this.changed(this.live);
    } catch (e) {
      console.error(e); // a fault of the view, and none of the connection's
    }
  }

  private url(): string {
    const { sites, filter, rate = "250ms", top, server } = this.options;
    const query = new URLSearchParams(sites.map((s) => ["site", s]));
    query.set("rate", this.hidden ? "5s" : rate);
    if (top !== undefined) query.set("top", String(top));
    for (const [name, value] of Object.entries(filter ?? {})) if (value !== undefined) query.set(name, value);
    // One id serves for all: that of the site which is furthest behind. What others get again changes nothing.
    const [oldest] = [...this.ids.values()].sort((a, b) => a.second - b.second);
    if (oldest && this.ids.size === sites.length) query.set("lastEventId", oldest.id);
    else this.fresh = new Set(sites);
    return `${server ?? ""}/api/events?${query}`;
  }

  private async connect(): Promise<void> {
    clearTimeout(this.retry);
    this.attempt?.abort.abort();
    const now = this.world.now();
    const a: Attempt = { abort: new AbortController(), begun: now, opened: false, frames: 0, retry: null };
    this.attempt = a;
    this.heard = now;
    this.offset = this.world.wall() - now;
    let end = network;
    try {
      end = await this.read(a);
    } catch {
      // The network, or something that is no stream of Nowcast's: the pause grows either way.
    }
    if (a !== this.attempt) return;
    a.abort.abort();
    this.lost(a, end);
  }

  private async read(a: Attempt): Promise<End> {
    const response = await this.world.fetch(this.url(), {
      headers: { Accept: "text/event-stream", ...this.options.headers },
      cache: "no-store",
      signal: a.abort.signal,
    });
    if (a !== this.attempt) return network;
    const { status, headers, body } = response;
    const seconds = Number(headers.get("Retry-After") ?? "");
    if (seconds > 0) a.retry = seconds * 1_000;
    if ([204, 400, 401, 403, 404].includes(status)) return { state: "refused", status };
    if (status === 429) return { state: "busy" };
    if (status !== 200 || !body || !headers.get("Content-Type")?.startsWith("text/event-stream"))
      return network;
    a.opened = true;
    this.heard = this.world.now();
    this.correct(Date.parse(headers.get("Date") ?? ""));
    const text = new TextDecoder();
    const parser = new Parser(
      (m) => a === this.attempt && this.take(a, m),
      (ms) => {
        a.retry = ms;
      },
    );
    for (const reader = body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (a !== this.attempt) return network;
      if (done) return a.frames === 0 && a.retry !== null ? { state: "busy" } : network;
      this.heard = this.world.now();
      parser.push(text.decode(value, { stream: true }));
    }
  }

  /** The answer says what time it is, to the second. A clock that is wrong by more is set right for what is shown. */
  private correct(date: number): void {
    const skew = date + 500 - this.world.wall();
    this.checked = !Number.isNaN(date);
    if (Math.abs(skew) > SKEW) this.offset += skew;
  }

  private take(a: Attempt, m: Message): void {
    const { sites, filter } = this.options;
    if (m.event === "reset") {
      this.fresh = new Set(sites);
      return;
    }
    if (m.event !== "message" && m.event !== "snapshot") return;
    const f = JSON.parse(m.data) as Snapshot;
    const site = sites.length === 1 ? sites[0] : sites.find((s) => s.toLowerCase() === f.site.toLowerCase());
    const before = site === undefined ? undefined : this.live.models.get(site);
    if (site === undefined || !before) return;
    // A server that can't filter would show everybody as the filtered ones.
    if (filter && !f.filter) throw new Error("read frame: the server doesn't filter");
    const now = this.world.now();
    const fresh = m.event === "snapshot" && this.fresh.delete(site);
    const model = m.event === "snapshot" ? takeSnapshot(before, f, fresh) : takeFrame(before, f);
    this.remember(site, m, f);
    a.frames++;
    if (now - a.begun > STEADY) this.pause = FIRST;
    if (fresh || model.timestamp > before.timestamp) {
      this.news = now;
      if (m.event === "message" && !this.hidden) this.measure(now, now + this.offset - model.timestamp);
    }
    const models = new Map(this.live.models).set(site, model);
    const connection: Connection = this.old() || model.timestamp === 0 ? this.stale() : { state: "live" };
    this.set({ ...pick(sites, models), delay: this.quantiles(), connection });
  }

  /** Where to go on. Merged seconds don't count: what is behind them is asked for again, second by second. */
  private remember(site: string, m: Message, f: Frame): void {
    const old = this.ids.get(site);
    if (!m.id || (m.event === "message" && old && !old.exact)) return;
    if (m.event === "message" && isMerged(f)) {
      if (old) this.ids.set(site, { ...old, exact: false });
      return;
    }
    this.ids.set(site, { id: m.id, second: Number(m.id.split("-")[1]), exact: true });
  }

  /** Nothing new for too long, by the monotonic clock. Filtered frames come on change only, and there a heartbeat is news enough. */
  private old(): boolean {
    if (this.options.filter) return this.world.now() - this.heard >= SILENT;
    return this.world.now() - this.news >= STALE + (this.hidden || this.options.rate === "5s" ? SLOW : 0);
  }

  private stale(): Connection {
    return { state: "stale", since: Math.max(0, ...[...this.live.models.values()].map((m) => m.timestamp)) };
  }

  /** Whatever ended the connection: tries again, by growing pauses and never before the server wants it. */
  private lost(a: Attempt, end: End): void {
    this.attempt = null;
    const least = Math.min(Math.max(a.retry ?? 0, FIRST), LONGEST_RETRY);
    // The server's pause is the least, so that chance only adds to it.
    const own = Math.min(this.pause, end.state === "refused" ? LONGEST_REFUSED : LONGEST);
    this.pause = 2 * own;
    this.earliest = this.world.now() + least;
    this.wait(Math.max(least, own) * (1 + this.world.random() / 2), { ...end, at: 0 });
  }

  private wait(ms: number, connection: Connection): void {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => void this.connect(), ms);
    this.set({ connection: "at" in connection ? { ...connection, at: this.world.now() + ms } : connection });
  }

  private tick(): void {
    const [now, wall] = [this.world.now(), this.world.wall()];
    const late = now - this.ticked.now;
    // Some machines stop the monotonic clock while they sleep. The wall's clock may have been set instead: a new connection is no harm.
    const slept = wall - this.ticked.wall - late > ASLEEP;
    this.ticked = { now, wall };
    const a = this.attempt;
    if (slept && !a) this.again();
    else if (slept || (a && late > ASLEEP && now - this.heard > ASLEEP)) {
      this.set({ connection: { state: "reconnecting", at: now } });
      this.renew();
    } else if (a && now - this.heard > (a.opened ? SILENT : OPENING)) {
      a.abort.abort();
      this.lost(a, network);
    } else if (a && this.live.connection.state === "live" && this.old())
      this.set({ connection: this.stale() });
  }

  private measure(at: number, ms: number): void {
    // Where the server didn't say what time it is, this is more likely the clock of this machine.
    if (!this.checked && Math.abs(ms) > UNLIKELY) return;
    this.delays.push({ at, ms });
    while ((this.delays[0]?.at ?? at) < at - 60_000) this.delays.shift();
  }

  private quantiles(): Live["delay"] {
    if (this.delays.length < 5) return null;
    const sorted = this.delays.map((d) => d.ms).sort((a, b) => a - b);
    const q = (f: number) => Math.max(0, sorted[Math.floor(f * (sorted.length - 1))] ?? 0);
    return { p50: q(0.5), p99: q(0.99) };
  }
}

const pick = (sites: readonly string[], models: ReadonlyMap<string, Model>) => ({
  models,
  model: models.get(sites[0] ?? "") ?? empty,
});

/** What there is before anything is known. */
export function waiting({ sites }: Options): Live {
  return {
    ...pick(sites, new Map(sites.map((s) => [s, empty]))),
    connection: { state: "connecting" },
    delay: null,
  };
}
