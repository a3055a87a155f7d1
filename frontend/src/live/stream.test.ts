import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { empty, type Frame, type Snapshot, takeFrame, takeSnapshot } from "./model";
import { type Live, LiveStream, type World } from "./stream";

const T = 1_795_435_200;
const iso = (s: number) => new Date(s * 1000).toISOString();
const sec = (at: number, n: number, final = true, revision = n) => ({
  at: iso(at),
  pageviews: n,
  visitors: n,
  events: n,
  final,
  revision,
});
const frame = (at: number, n: number, final = true): Frame => ({
  visitors: n,
  timestamp: iso(at + 1),
  site: "x",
  second: sec(at, n, final),
  skipped: 0,
});
const snapshot = (at: number, seconds: ReturnType<typeof sec>[]): Snapshot => ({ ...frame(at, 0), seconds });

describe("model", () => {
  test("snapshot, then frames: every second once, provisional until final", () => {
    let m = takeSnapshot(empty, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), true);
    m = takeFrame(m, frame(T + 1, 2, false));
    expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 2, final: false });
    m = takeFrame(m, frame(T + 1, 3));
    expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 3, final: true });
    expect([...m.seconds.values()].reduce((n, s) => n + s.pageviews, 0)).toBe(8);
    expect(m.final).toBe(T + 1);
  });

  test("a final second never changes and a provisional one never counts down", () => {
    let m = takeFrame(empty, frame(T, 5));
    m = takeFrame(m, frame(T, 9, false));
    expect(m.seconds.get(T)?.pageviews).toBe(5);
    m = takeFrame(m, frame(T + 1, 5, false));
    m = takeFrame(m, frame(T + 1, 4, false));
    expect(m.seconds.get(T + 1)?.pageviews).toBe(5);
  });

  test("merged seconds keep their sum", () => {
    const f = { ...frame(T + 4, 13), second: { ...sec(T + 4, 13), from: iso(T), to: iso(T + 4) } };
    const m = takeFrame(empty, f);
    expect([...m.seconds.values()].reduce((n, s) => n + s.pageviews, 0)).toBe(13);
  });

  test("a snapshot after a break adds to what is known; after a reset it replaces it", () => {
    const m = takeFrame(empty, frame(T, 5));
    expect(takeSnapshot(m, snapshot(T + 2, [sec(T + 1, 1)]), false).seconds.size).toBe(2);
    expect(takeSnapshot(m, snapshot(T + 2, [sec(T + 1, 1)]), true).seconds.size).toBe(1);
  });

  test("old seconds go", () => {
    let m = takeFrame(empty, frame(T, 1));
    m = takeFrame(m, frame(T + 1000, 1));
    expect(m.seconds.size).toBe(1);
  });
});

class Source extends EventTarget {
  onmessage: ((e: MessageEvent) => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  constructor(readonly url: string) {
    super();
  }
  close() {
    this.closed = true;
  }
  frame(f: Frame, id: string) {
    this.onmessage?.(new MessageEvent("message", { data: JSON.stringify(f), lastEventId: id }));
  }
  snapshot(f: Snapshot, id: string) {
    this.dispatchEvent(new MessageEvent("snapshot", { data: JSON.stringify(f), lastEventId: id }));
  }
}

describe("stream", () => {
  let sources: Source[];
  let status: number | Error;
  let live: Live;
  let stream: LiveStream;
  beforeEach(() => {
    vi.useFakeTimers();
    vi.setSystemTime((T + 2) * 1000);
    sources = [];
    status = 200;
    const world: World = {
      now: () => Date.now(),
      open: (url) => {
        const s = new Source(url);
        sources.push(s);
        return s as unknown as EventSource;
      },
      probe: () => (status instanceof Error ? Promise.reject(status) : Promise.resolve(status)),
      random: () => 0.5,
    };
    stream = new LiveStream("x", (l) => (live = l), world);
    stream.start();
  });
  afterEach(() => {
    stream.stop();
    vi.useRealTimers();
  });
  const last = () => sources.at(-1) as Source;
  const begin = () => last().snapshot(snapshot(T, [sec(T, 1)]), `1-${T}-0`);

  test("goes live with the snapshot", () => {
    begin();
    expect(live.connection.state).toBe("live");
    expect(live.model.seconds.size).toBe(1);
  });

  test("comes back with the last id after an error, with growing pauses", async () => {
    begin();
    last().frame(frame(T + 1, 2), `1-${T + 1}-0`);
    last().onerror?.();
    expect(live.connection.state).toBe("reconnecting");
    await vi.advanceTimersByTimeAsync(500);
    expect(sources).toHaveLength(2);
    expect(last().url).toContain(`lastEventId=1-${T + 1}-0`);
    last().onerror?.();
    await vi.advanceTimersByTimeAsync(600);
    expect(sources).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(500);
    expect(sources).toHaveLength(3);
    last().snapshot(snapshot(T + 3, [sec(T + 2, 7)]), `1-${T + 3}-0`);
    expect([...live.model.seconds.values()].map((s) => s.pageviews)).toEqual([1, 2, 7]);
  });

  test("goes on while the server is away", async () => {
    status = new TypeError("network");
    last().onerror?.();
    await vi.advanceTimersByTimeAsync(600);
    expect(sources).toHaveLength(2);
  });

  test("stops when it is refused, and says so", async () => {
    status = 401;
    last().onerror?.();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(live.connection).toEqual({ state: "refused", status: 401 });
    expect(sources).toHaveLength(1);
  });

  test("says stale when nothing new comes, though the connection is open", async () => {
    begin();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(live.connection.state).toBe("stale");
    vi.setSystemTime((T + 8) * 1000);
    last().frame(frame(T + 6, 1), `1-${T + 6}-0`);
    expect(live.connection.state).toBe("live");
  });

  test("a sleep or a dead connection makes a new one", async () => {
    begin();
    vi.setSystemTime(Date.now() + 60_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(sources).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(45_000);
    expect(sources.length).toBeGreaterThan(2);
  });

  test("a hidden tab asks for less and catches up on return", () => {
    begin();
    stream.setHidden(true);
    expect(last().url).toContain("rate=5s");
    expect(last().url).toContain("lastEventId");
    stream.setHidden(false);
    expect(last().url).toContain("rate=250ms");
    expect(sources.slice(0, -1).every((s) => s.closed)).toBe(true);
  });

  test("a reset replaces what was known", () => {
    begin();
    last().dispatchEvent(new MessageEvent("reset", { data: "{}" }));
    last().snapshot(snapshot(T + 900, [sec(T + 900, 3)]), `1-${T + 900}-0`);
    expect([...live.model.seconds.keys()]).toEqual([T + 900]);
  });
});
