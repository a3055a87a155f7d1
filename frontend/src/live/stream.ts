/**
 * The live stream of a site, apart from any view.
 *
 * An EventSource gives up for good on any HTTP error and hides how stale it is. This keeps its own time: it reconnects with growing,
 * jittered pauses and the last id, so that no second is missed or doubled; it notices a connection that is open but silent, a laptop
 * that slept and a network that came back; and in a hidden tab it goes to a slower rate and catches up in one step on return.
 */
import { empty, type Frame, type Model, type Snapshot, takeFrame, takeSnapshot } from "./model";

export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting"; at: number }
  | { state: "stale"; since: number }
  | { state: "refused"; status: number };

export interface Live {
  model: Model;
  connection: Connection;
  /** Age of the newest numbers when they arrived, ms: median and 99th percentile of the last minute. */
  delay: { p50: number; p99: number } | null;
}

/** What the stream needs from its surroundings, so that tests can give their own. */
export interface World {
  now(): number;
  open(url: string): EventSource;
  probe(url: string): Promise<number>;
  random(): number;
}

export const browser: World = {
  now: () => Date.now(),
  open: (url) => new EventSource(url),
  probe: (url) => fetch(url, { cache: "no-store" }).then((r) => r.status),
  random: () => Math.random(),
};

const STALE = 3_500; // the log moves four times a second: so long without a frame means that it stands still
const DEAD = 40_000; // not even two heartbeats: the connection is half dead
const ASLEEP = 10_000; // a timer of a second that is so late: the machine slept
const FIRST = 500;
const LONGEST = 10_000;

export class LiveStream {
  private live: Live = { model: empty, connection: { state: "connecting" }, delay: null };
  private source: EventSource | null = null;
  private lastId = "";
  private fresh = true;
  private heard = 0; // when the connection last said anything
  private news = 0; // when the newest numbers arrived
  private ticked = 0;
  private pause = FIRST;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;
  private delays: { at: number; ms: number }[] = [];
  private hidden = false;

  constructor(
    private readonly site: string,
    private readonly changed: (l: Live) => void,
    private readonly world: World = browser,
  ) {}

  start(): void {
    this.ticked = this.world.now();
    this.timer = setInterval(() => this.tick(), 1_000);
    this.connect();
  }

  stop(): void {
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  /** A hidden tab needs less; on return everything in between comes in one step. */
  setHidden(hidden: boolean): void {
    if (hidden === this.hidden) return;
    this.hidden = hidden;
    if (this.live.connection.state !== "refused") this.connect();
  }

  /** The network is back, or a person asks: don't wait any longer. */
  again(): void {
    this.pause = FIRST;
    this.connect();
  }

  private set(change: Partial<Live>): void {
    this.live = { ...this.live, ...change };
    this.changed(this.live);
  }

  private connect(): void {
    clearTimeout(this.retry);
    this.source?.close();
    const query = new URLSearchParams({ site: this.site, rate: this.hidden ? "5s" : "250ms" });
    if (this.lastId) query.set("lastEventId", this.lastId);
    const source = this.world.open(`/api/events?${query}`);
    this.source = source;
    this.heard = this.world.now();
    source.onmessage = (e) => this.take(source, e, (m) => takeFrame(m, JSON.parse(e.data) as Frame));
    source.addEventListener("snapshot", (e) => {
      const fresh = this.fresh;
      this.fresh = false;
      this.take(source, e, (m) => takeSnapshot(m, JSON.parse(e.data) as Snapshot, fresh));
    });
    source.addEventListener("reset", () => {
      this.fresh = true;
    });
    source.onerror = () => this.lost(source);
  }

  private take(source: EventSource, e: MessageEvent, apply: (m: Model) => Model): void {
    if (source !== this.source) return;
    const now = this.world.now();
    this.lastId = e.lastEventId || this.lastId;
    this.pause = FIRST;
    const model = apply(this.live.model);
    this.heard = now;
    if (model.timestamp > this.live.model.timestamp) {
      this.news = now;
      if (e.type === "message" && !this.hidden) {
        this.delays.push({ at: now, ms: now - model.timestamp });
        while ((this.delays[0]?.at ?? now) < now - 60_000) this.delays.shift();
      }
    }
    const current = now - this.news < STALE && model.timestamp > 0;
    this.set({ model, delay: this.quantiles(), connection: current ? { state: "live" } : this.stale() });
  }

  private stale(): Connection {
    return { state: "stale", since: this.live.model.timestamp };
  }

  /** Whatever ended the connection: try again, but find out first whether the server refuses us for a reason. */
  private lost(source: EventSource): void {
    if (source !== this.source) return;
    source.close();
    this.source = null;
    const wait = this.pause * (0.5 + this.world.random());
    this.pause = Math.min(2 * this.pause, LONGEST);
    this.set({ connection: { state: "reconnecting", at: this.world.now() + wait } });
    this.retry = setTimeout(() => {
      const again = () => this.source === null && this.timer !== undefined && this.connect();
      this.world.probe(`/api/v1/stats/realtime/visitors?site_id=${encodeURIComponent(this.site)}`).then((status) => {
        if (status === 401 || status === 403 || status === 404) this.set({ connection: { state: "refused", status } });
        else again();
      }, again);
    }, wait);
  }

  private tick(): void {
    const now = this.world.now();
    const slept = now - this.ticked > ASLEEP;
    this.ticked = now;
    const { state } = this.live.connection;
    if (state === "refused") return;
    if (slept || (this.source && now - this.heard > DEAD)) {
      this.again();
      return;
    }
    const limit = this.hidden ? STALE + 6_000 : STALE;
    if (this.source && state === "live" && now - this.news >= limit) this.set({ connection: this.stale() });
  }

  private quantiles(): Live["delay"] {
    if (this.delays.length < 5) return null;
    const sorted = this.delays.map((d) => d.ms).sort((a, b) => a - b);
    const q = (f: number) => Math.max(0, sorted[Math.floor(f * (sorted.length - 1))] ?? 0);
    return { p50: q(0.5), p99: q(0.99) };
  }
}
