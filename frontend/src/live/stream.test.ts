import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { frame, iso, Server, sec, snapshot, span, T } from "./fixtures";
import type { Frame } from "./model";
import { type Live, LiveStream, type Options, type World } from "./stream";

let server: Server;
let live: Live;
let stream: LiveStream;
let shift: { now: number; wall: number }; // what the clocks do beside running

const world: World = {
  now: () => performance.now() + shift.now,
  wall: () => Date.now() + shift.wall,
  fetch: (url, init) => server.fetch(url, init),
  random: () => 0,
};

function begin(options: Options) {
  stream?.stop();
  server = new Server();
  stream = new LiveStream(options, (l) => (live = l), world);
  stream.start();
}

/** Lets that many ms go by; 0 lets through what was sent. */
const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const state = () => live.connection.state;
/** How long it waits until it tries again. */
const due = () => ("at" in live.connection ? live.connection.at - world.now() : 0);
const seconds = () =>
  [...live.model.seconds].map(([at, s]) => [at - T, s.pageviews] as const).sort((a, b) => a[0] - b[0]);

/** A second of the log each second. */
async function run(from: number, to: number, server_ = server.last) {
  for (let at = from; at <= to; at++) {
    server_.frame(frame(T + at, at));
    await pass(1_000);
  }
}

async function goLive() {
  await pass();
  server.last.text("retry: 1000\n\n");
  server.last.snapshot(snapshot(T, [sec(T, 1)]));
  await pass();
  expect(state()).toBe("live");
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.setSystemTime((T + 2) * 1000);
  shift = { now: 0, wall: 0 };
  begin({ sites: ["x"] });
});
afterEach(() => {
  stream.stop();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

test("goes live with the snapshot", async () => {
  expect(live).toBeUndefined();
  await goLive();
  expect(seconds()).toEqual([[0, 1]]);
  expect([...server.last.query]).toEqual([
    ["site", "x"],
    ["rate", "250ms"],
  ]);
  expect(server.last.init.headers).toEqual({ Accept: "text/event-stream" });
});

test("another app names its server and its key", async () => {
  begin({ sites: ["x"], server: "https://stats.example", headers: { Authorization: "Bearer nck_1" } });
  expect(server.last.url).toMatch(/^https:\/\/stats\.example\/api\/events\?site=x/);
  expect(server.last.init.headers).toMatchObject({ Authorization: "Bearer nck_1" });
});

test("a wall asks for several sites without lists, more slowly", async () => {
  begin({ sites: ["x", "y"], rate: "1s", top: 0 });
  expect([...server.last.query].map((q) => q.join("="))).toEqual(["site=x", "site=y", "rate=1s", "top=0"]);
  stream.setHidden(true);
  await pass();
  expect(server.last.query.get("rate")).toBe("5s");
});

describe("a broken connection", () => {
  test("goes on after the newest id, by growing pauses that are never under the server's", async () => {
    await goLive();
    server.last.frame(frame(T + 1, 2));
    await pass();
    server.last.fail();
    await pass();
    expect(live.connection).toEqual({ state: "reconnecting", at: world.now() + 1_000 });
    server.status = "away";
    await pass(1_000);
    expect(server.requests).toHaveLength(2);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 1}-0`);
    for (const [i, pause] of [1_000, 2_000, 4_000, 8_000, 10_000, 10_000].entries()) {
      await pass(pause - 1);
      expect(server.requests).toHaveLength(i + 2);
      await pass(1);
      expect(server.requests).toHaveLength(i + 3);
    }
    server.status = 200;
    await pass(10_000);
    server.last.snapshot(snapshot(T + 3, [sec(T + 2, 7)]));
    await pass();
    expect(seconds()).toEqual([
      [0, 1],
      [1, 2],
      [2, 7],
    ]);
  });

  test("that is good for some seconds has short pauses again; one that breaks at once doesn't", async () => {
    await goLive();
    await run(1, 6);
    for (const pause of [1_000, 1_000, 2_000]) {
      server.last.fail();
      await pass();
      expect(live.connection).toMatchObject({ at: world.now() + pause });
      await pass(pause);
      server.last.snapshot(snapshot(T + 6, []));
      await pass();
    }
    for (let i = 0; i < 6; i++) {
      await pass(1_000);
      server.last.frame(frame(T + 7 + i, 1));
    }
    await pass();
    server.last.end();
    await pass();
    expect(live.connection).toEqual({ state: "reconnecting", at: world.now() + 500 });
  });

  test.each<[string, Partial<Server>]>([
    ["500", { status: 500 }],
    ["502 of a proxy", { status: 502 }],
    ["503", { status: 503, headers: { "Retry-After": "0" } }],
    ["a page of a proxy that says 200", { status: 200, type: "text/html" }],
  ])("%s: tries again", async (_name, answer) => {
    Object.assign(server, answer);
    server.last.fail();
    await pass();
    expect(state()).toBe("reconnecting");
    await pass(500);
    expect(server.requests).toHaveLength(2);
    await pass();
    Object.assign(server, { status: 200, type: "text/event-stream", headers: {} });
    await pass(1_000);
    await goLive();
  });

  test("503 with Retry-After: not before", async () => {
    await goLive();
    Object.assign(server, { status: 503, headers: { "Retry-After": "7" } });
    server.last.end();
    await pass(1_000);
    stream.again();
    await pass(6_999);
    expect(server.requests).toHaveLength(2);
    await pass(1);
    expect(server.requests).toHaveLength(3);
  });

  test("an answer that never begins", async () => {
    begin({ sites: ["x"] });
    server.status = "mute";
    stream.renew();
    await pass(17_000);
    expect(server.requests).toHaveLength(3);
    expect(server.requests.slice(0, 2).every((r) => r.closed)).toBe(true);
  });

  test.each([
    ["no JSON", "data: {\n\n"],
    ["no frame", "data: null\n\n"],
  ])("%s: is dropped, and tried again", async (_name, text) => {
    await goLive();
    server.last.text(text);
    await pass();
    expect(state()).toBe("reconnecting");
    expect(server.last.closed).toBe(true);
    expect(seconds()).toEqual([[0, 1]]);
  });
});

describe("busy: 200, a retry and a close", () => {
  const busy = async (retry: number) => {
    server.last.text(`retry: ${retry}\n\n`);
    server.last.end();
    await pass();
  };
  test("is said, and the server's retry is the least pause", async () => {
    await busy(7_000);
    expect(live.connection).toEqual({ state: "busy", at: world.now() + 7_000 });
    await pass(3_000);
    stream.again();
    stream.renew();
    await pass(3_999);
    expect(server.requests).toHaveLength(1);
    await pass(1);
    expect(server.requests).toHaveLength(2);
    await goLive();
  });
  test("own pauses grow where the server's is short", async () => {
    for (const pause of [500, 1_000, 2_000, 4_000]) {
      await busy(10);
      expect(live.connection).toEqual({ state: "busy", at: world.now() + pause });
      await pass(pause);
    }
  });
  test("a retry that is no pause but a mistake is cut to five minutes", async () => {
    await busy(9e15);
    expect(live.connection).toEqual({ state: "busy", at: world.now() + 300_000 });
  });
  test("429 is the same", async () => {
    Object.assign(server, { status: 429, headers: { "Retry-After": "3" } });
    server.last.fail();
    await pass(500);
    expect(live.connection).toEqual({ state: "busy", at: world.now() + 3_000 });
  });
  test("numbers that are shown stay", async () => {
    await goLive();
    server.last.end();
    await pass(1_000);
    await busy(2_000);
    expect(state()).toBe("busy");
    expect(seconds()).toEqual([[0, 1]]);
  });
});

describe("refused", () => {
  test.each([401, 403, 404, 400, 204])(
    "%i is said and asked again, by pauses up to a minute",
    async (status) => {
      await goLive();
      server.status = status;
      server.last.end();
      await pass(1_000);
      expect(live.connection).toEqual({ state: "refused", status, at: world.now() + 1_000 });
      for (const pause of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
        expect(live.connection).toMatchObject({ at: world.now() + pause });
        await pass(pause);
      }
      server.status = 200;
      await pass(60_000);
      server.last.snapshot(snapshot(T + 3, [sec(T + 2, 7)]));
      await pass();
      expect(state()).toBe("live");
    },
  );

  test("is asked again at once when somebody looks", async () => {
    server.status = 401;
    server.last.fail();
    await pass(500);
    for (let i = 0; i < 8; i++) await pass(60_000);
    const asked = server.requests.length;
    server.status = 200;
    stream.again();
    expect(server.requests).toHaveLength(asked + 1);
    await goLive();
  });

  test("then away: the pauses are short again", async () => {
    server.status = 401;
    server.last.fail();
    await pass(500);
    for (let i = 0; i < 8; i++) await pass(due());
    server.status = "away";
    await pass(due());
    expect(live.connection).toEqual({ state: "reconnecting", at: world.now() + 10_000 });
  });
});

describe("time", () => {
  test("stale, when nothing new comes though the connection is open", async () => {
    await goLive();
    for (let i = 0; i < 5; i++) {
      server.last.text(": hb\n\n");
      await pass(1_000);
    }
    expect(live.connection).toEqual({ state: "stale", since: (T + 1) * 1000 });
    server.last.frame(frame(T, 1)); // an old one is no news
    await pass();
    expect(state()).toBe("stale");
    server.last.frame(frame(T + 6, 1));
    await pass();
    expect(state()).toBe("live");
    expect(server.requests).toHaveLength(1);
  });

  test("open but silent: a new connection", async () => {
    await goLive();
    await pass(20_000);
    server.last.text(": hb\n\n");
    await pass(24_000);
    expect(server.requests).toHaveLength(1);
    expect(state()).toBe("stale");
    await pass(4_000);
    expect(server.requests).toHaveLength(2);
    expect(server.requests[0]?.closed).toBe(true);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T}-0`);
  });

  test.each([
    ["forward an hour", 3_600_000, true],
    ["forward an hour, and no Date says so", 3_600_000, false],
    ["back an hour", -3_600_000, true],
    ["forward five seconds", 5_000, true],
    ["back five seconds", -5_000, true],
  ])("the wall's clock is set %s: fresh numbers stay live, old ones turn stale", async (_name, ms, named) => {
    await goLive();
    await run(1, 3);
    shift.wall = ms;
    if (named) server.headers = { Date: new Date(Date.now()).toUTCString() };
    const states = new Set<string>();
    for (let at = 4; at < 10; at++) {
      server.last.frame(frame(T + at, at));
      await pass(500);
      states.add(state());
      await pass(500);
    }
    expect(states).not.toContain("stale");
    expect(state()).toBe("live");
    expect(live.delay?.p50 ?? 0).toBeLessThan(2_000);
    await pass(5_000);
    expect(state()).toBe("stale");
  });

  test.each([
    ["with the monotonic clock", { now: 60_000, wall: 60_000 }],
    ["and the monotonic clock stood still", { now: 0, wall: 60_000 }],
  ])("the machine slept %s: a new connection at once", async (_name, by) => {
    await goLive();
    shift = by;
    await pass(1_000);
    expect(state()).not.toBe("live");
    expect(server.requests).toHaveLength(2);
    server.last.snapshot(snapshot(T + 61, [sec(T + 30, 5)]));
    await pass();
    expect(state()).toBe("live");
    expect(seconds()).toEqual([
      [0, 1],
      [30, 5],
    ]);
  });

  test("the machine slept while it waited: tries at once", async () => {
    server.status = 404;
    server.last.fail();
    await pass();
    for (let i = 0; i < 9; i++) await pass(due());
    const asked = server.requests.length;
    await pass(5_000);
    expect(server.requests).toHaveLength(asked);
    shift = { now: 0, wall: 600_000 };
    await pass(1_000);
    expect(server.requests).toHaveLength(asked + 2);
  });

  test("timers of a hidden tab come once a minute, which is no sleep", async () => {
    await goLive();
    stream.setHidden(true);
    await pass();
    server.last.snapshot(snapshot(T + 1, []));
    const asked = server.requests.length;
    for (let i = 1; i < 4; i++) {
      shift = { now: i * 60_000, wall: i * 60_000 };
      server.last.frame(span(T + 60 * i - 4, T + 60 * i, 5));
      await pass(); // a frame arrives, then the late timer comes
      await pass(1_000);
    }
    expect(server.requests).toHaveLength(asked);
    expect(state()).toBe("live");
  });

  test("an offline hour: a reset replaces what was known", async () => {
    await goLive();
    server.status = "away";
    server.last.fail();
    for (let i = 0; i < 60; i++) await pass(60_000);
    expect(state()).toBe("reconnecting");
    server.status = 200;
    stream.renew();
    await pass();
    expect(server.last.query.get("lastEventId")).toBe(`1-${T}-0`);
    server.last.reset();
    server.last.snapshot(snapshot(T + 3_600, [sec(T + 3_600, 3)]));
    await pass();
    expect(state()).toBe("live");
    expect(seconds()).toEqual([[3_600, 3]]);
    expect(live.model.known).toBe(T + 3_300);
  });

  test("a log that began anew, with older numbers, is live", async () => {
    await goLive();
    await run(1, 3);
    await pass(5_000);
    expect(state()).toBe("stale");
    server.last.end();
    await pass(1_000);
    server.last.reset();
    server.last.snapshot(snapshot(T - 5_000, [sec(T - 5_000, 3)]));
    await pass();
    expect(state()).toBe("live");
    expect(seconds()).toEqual([[-5_000, 3]]);
  });

  test("a clock that is wrong by minutes doesn't make fresh numbers look old", async () => {
    shift.wall = 240_000;
    begin({ sites: ["x"] });
    server.headers = { Date: new Date(Date.now()).toUTCString() };
    stream.renew();
    await goLive();
    await run(1, 8);
    expect(live.delay?.p50).toBeLessThan(2_000);
  });
});

describe("a hidden tab", () => {
  test("asks for less, and on return catches up in one step, second by second", async () => {
    await goLive();
    await run(1, 2);
    stream.setHidden(true);
    await pass();
    expect(server.last.query.get("rate")).toBe("5s");
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 2}-0`);
    server.last.snapshot(snapshot(T + 3, [sec(T + 3, 3)]));
    for (const end of [8, 13]) {
      server.last.frame(span(T + end - 4, T + end, 10));
      await pass(5_000);
      expect(state()).toBe("live");
    }
    expect(live.model.seconds.get(T + 8)).toMatchObject({ pageviews: 2, merged: true });
    server.last.frame(frame(T + 14, 1)); // that it isn't merged itself doesn't make those before it known
    await pass();
    stream.setHidden(false);
    await pass();
    expect(server.last.query.get("rate")).toBe("250ms");
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 3}-0`);
    expect(server.requests.slice(0, -1).every((r) => r.closed)).toBe(true);
    server.last.snapshot(snapshot(T + 14, [sec(T + 5, 10), sec(T + 9, 10), sec(T + 14, 1)]));
    await pass();
    expect(seconds()).toEqual([
      [0, 1],
      [1, 1],
      [2, 2],
      [3, 3],
      [5, 10],
      [9, 10],
      [14, 1],
    ]);
  });

  test("that was frozen for an hour isn't green on return", async () => {
    await goLive();
    stream.setHidden(true);
    await pass();
    server.last.snapshot(snapshot(T + 1, []));
    await pass();
    expect(state()).toBe("live");
    shift = { now: 3_600_000, wall: 3_600_000 };
    stream.setHidden(false);
    expect(state()).toBe("stale");
  });

  test("that waits tries at once on return", async () => {
    stream.setHidden(true);
    server.status = 403;
    server.last.fail();
    for (let i = 0; i < 9; i++) await pass(60_000);
    const asked = server.requests.length;
    stream.setHidden(false);
    expect(server.requests).toHaveLength(asked + 1);
  });
});

describe("a filter", () => {
  const filtered = (at: number, visitors: number, more: object = {}): Frame => ({
    visitors,
    timestamp: iso(T + at),
    site: "x",
    skipped: 0,
    filter: { page: "/x" },
    ...more,
  });
  beforeEach(() => begin({ sites: ["x"], filter: { page: "/x" } }));

  test("is asked for, and its frames come on change only", async () => {
    await pass();
    expect(server.last.query.get("page")).toBe("/x");
    server.last.snapshot({ ...filtered(0, 3, { upper_bound: true }), seconds: [] });
    await pass();
    expect(live.model).toMatchObject({ visitors: 3, upperBound: true });
    await pass(15_000);
    server.last.text(": hb\n\n");
    await pass(15_000);
    expect(state()).toBe("live");
    server.last.frame(filtered(30, 2));
    await pass();
    expect(live.model).toMatchObject({ visitors: 2, upperBound: false });
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 30}-0`);
  });

  test("that the server doesn't know shows no number at all", async () => {
    await pass();
    server.last.snapshot(snapshot(T, []));
    await pass();
    expect(live.model.visitors).toBe(null);
    expect(state()).toBe("reconnecting");
  });
});

describe("several sites on one connection", () => {
  const of = (site: string, f: Frame): Frame => ({ ...f, site });
  beforeEach(async () => {
    begin({ sites: ["a", "B"] });
    await pass();
    server.last.snapshot({ ...of("a", snapshot(T, [sec(T, 1)])), seconds: [sec(T, 1)] }, `1-${T}-0-2`);
    server.last.snapshot({ ...of("b", snapshot(T, [])), seconds: [sec(T, 5)] }, `1-${T}-0-2`);
    await pass();
  });
  const views = (site: string) =>
    [...(live.models.get(site)?.seconds.values() ?? [])].map((s) => s.pageviews);

  test("have a model each", async () => {
    expect(server.last.query.getAll("site")).toEqual(["a", "B"]);
    server.last.frame(of("b", frame(T + 1, 7)));
    server.last.frame(of("c", frame(T + 1, 9)));
    await pass();
    expect(views("a")).toEqual([1]);
    expect(views("B")).toEqual([5, 7]);
    expect(live.model).toBe(live.models.get("a"));
    expect(state()).toBe("live");
  });

  test("go on from the one that is furthest behind", async () => {
    server.last.frame(of("b", frame(T + 1, 7)), `1-${T + 1}-0-2`);
    server.last.frame(of("a", frame(T + 2, 3)), `1-${T + 2}-0-2`);
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 1}-0-2`);
  });

  test("are all replaced by a reset, each by its own snapshot", async () => {
    server.last.reset();
    for (const s of ["a", "b"])
      server.last.snapshot({ ...of(s, snapshot(T + 900, [])), seconds: [sec(T + 900, 2)] });
    await pass();
    expect([views("a"), views("B")]).toEqual([[2], [2]]);
  });

  test("a break before all were told begins anew", async () => {
    begin({ sites: ["a", "b"] });
    await pass();
    server.last.snapshot({ ...of("a", snapshot(T, [])), seconds: [sec(T, 1)] });
    await pass();
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(null);
    server.last.snapshot({ ...of("a", snapshot(T + 200, [])), seconds: [sec(T + 200, 2)] });
    await pass();
    expect(views("a")).toEqual([2]);
  });
});

test("a fault of the view is told, and doesn't end the stream", async () => {
  const told = vi.spyOn(console, "error").mockImplementation(() => {});
  stream.stop();
  stream = new LiveStream(
    { sites: ["x"] },
    (l) => {
      live = l;
      throw new Error("view");
    },
    world,
  );
  stream.start();
  await goLive();
  expect(told).toHaveBeenCalledWith(new Error("view"));
  expect(server.last.closed).toBe(false);
  told.mockRestore();
});

test("a stream of no site is a mistake", () => {
  expect(() => new LiveStream({ sites: [] }, () => {}, world)).toThrow("at least one");
});

test("stopped, it asks nothing and says nothing more", async () => {
  await goLive();
  const before = live;
  stream.stop();
  stream.again();
  stream.renew();
  stream.setHidden(true);
  await pass(120_000);
  expect(server.requests).toHaveLength(1);
  expect(server.last.closed).toBe(true);
  expect(live).toBe(before);
});
