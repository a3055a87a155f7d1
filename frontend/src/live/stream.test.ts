import { beforeEach, describe, expect, test, vi } from "vitest";
import { frame, iso, type Server, sec, snapshot, T } from "./fixtures";
import type { Frame } from "./model";
import { LiveStream } from "./stream";
import {
  begin,
  env,
  goLive,
  live,
  pass,
  pauseLeft,
  run,
  seconds,
  server,
  setUpEachTest,
  state,
  stream,
} from "./stream-fixture";

setUpEachTest();

test("is live from the snapshot on", async () => {
  expect(live).toBeUndefined();
  await goLive();
  expect(seconds()).toEqual([[0, 1]]);
  expect([...server.last.query]).toEqual([
    ["site", "x"],
    ["rate", "250ms"],
  ]);
  expect(server.last.init.headers).toEqual({ Accept: "text/event-stream" });
});

test("another app sets its server and its key", async () => {
  begin({ sites: ["x"], server: "https://stats.example", headers: { Authorization: "Bearer nck_1" } });
  expect(server.last.url).toMatch(/^https:\/\/stats\.example\/api\/events\?site=x/);
  expect(server.last.init.headers).toMatchObject({ Authorization: "Bearer nck_1" });
});

test("a list of sites requests several sites without lists, at a slower rate", async () => {
  begin({ sites: ["x", "y"], rate: "1s", top: 0 });
  expect([...server.last.query].map((q) => q.join("="))).toEqual(["site=x", "site=y", "rate=1s", "top=0"]);
  stream.setHidden(true);
  await pass();
  expect(server.last.query.get("rate")).toBe("5s");
});

describe("a broken connection", () => {
  test("resumes after the newest id, with a backoff never below the server's retry", async () => {
    await goLive();
    server.last.frame(frame(T + 1, 2));
    await pass();
    server.last.fail();
    await pass();
    expect(live.connection).toEqual({ state: "reconnecting", retryAt: env.monotonic() + 1_000 });
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

  test("that lasts some seconds resets the backoff; one that breaks at once doesn't", async () => {
    await goLive();
    await run(1, 6);
    for (const pause of [1_000, 1_000, 2_000]) {
      server.last.fail();
      await pass();
      expect(live.connection).toMatchObject({ retryAt: env.monotonic() + pause });
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
    expect(live.connection).toEqual({ state: "reconnecting", retryAt: env.monotonic() + 500 });
  });

  test.each<[string, Partial<Server>]>([
    ["500", { status: 500 }],
    ["502 of a proxy", { status: 502 }],
    ["503", { status: 503, headers: { "Retry-After": "0" } }],
    ["a page of a proxy with status 200", { status: 200, type: "text/html" }],
  ])("%s: retries", async (_name, answer) => {
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

  test("503 with Retry-After: retries no earlier", async () => {
    await goLive();
    Object.assign(server, { status: 503, headers: { "Retry-After": "7" } });
    server.last.end();
    await pass(1_000);
    stream.retryNow();
    await pass(6_999);
    expect(server.requests).toHaveLength(2);
    await pass(1);
    expect(server.requests).toHaveLength(3);
  });

  test("a response that never begins", async () => {
    begin({ sites: ["x"] });
    server.status = "mute";
    stream.reconnect();
    await pass(17_000);
    expect(server.requests).toHaveLength(3);
    expect(server.requests.slice(0, 2).every((r) => r.closed)).toBe(true);
  });

  test.each([
    ["no JSON", "data: {\n\n"],
    ["no frame", "data: null\n\n"],
  ])("%s: closes the connection and retries", async (_name, text) => {
    await goLive();
    server.last.text(text);
    await pass();
    expect(state()).toBe("reconnecting");
    expect(server.last.closed).toBe(true);
    expect(seconds()).toEqual([[0, 1]]);
  });
});

describe("busy: 200 with a retry, then the end", () => {
  const busy = async (retry: number) => {
    server.last.text(`retry: ${retry}\n\n`);
    server.last.end();
    await pass();
  };
  test("is reported, and the server's retry is the minimum pause", async () => {
    await busy(7_000);
    expect(live.connection).toEqual({ state: "busy", retryAt: env.monotonic() + 7_000 });
    await pass(3_000);
    stream.retryNow();
    stream.reconnect();
    await pass(3_999);
    expect(server.requests).toHaveLength(1);
    await pass(1);
    expect(server.requests).toHaveLength(2);
    await goLive();
  });
  test("the backoff grows where the server's retry is short", async () => {
    for (const pause of [500, 1_000, 2_000, 4_000]) {
      await busy(10);
      expect(live.connection).toEqual({ state: "busy", retryAt: env.monotonic() + pause });
      await pass(pause);
    }
  });
  test("a retry is cut to five minutes", async () => {
    await busy(9e15);
    expect(live.connection).toEqual({ state: "busy", retryAt: env.monotonic() + 300_000 });
  });
  test("429 is busy as well", async () => {
    Object.assign(server, { status: 429, headers: { "Retry-After": "3" } });
    server.last.fail();
    await pass(500);
    expect(live.connection).toEqual({ state: "busy", retryAt: env.monotonic() + 3_000 });
  });
  test("the numbers stay", async () => {
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
    "%i is reported and retried, with a backoff up to a minute",
    async (status) => {
      await goLive();
      server.status = status;
      server.last.end();
      await pass(1_000);
      expect(live.connection).toEqual({ state: "refused", status, retryAt: env.monotonic() + 1_000 });
      for (const pause of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
        expect(live.connection).toMatchObject({ retryAt: env.monotonic() + pause });
        await pass(pause);
      }
      server.status = 200;
      await pass(60_000);
      server.last.snapshot(snapshot(T + 3, [sec(T + 2, 7)]));
      await pass();
      expect(state()).toBe("live");
    },
  );

  test("retries at once with retryNow", async () => {
    server.status = 401;
    server.last.fail();
    await pass(500);
    for (let i = 0; i < 8; i++) await pass(60_000);
    const requests = server.requests.length;
    server.status = 200;
    stream.retryNow();
    expect(server.requests).toHaveLength(requests + 1);
    await goLive();
  });

  test("then no network: the backoff is short again", async () => {
    server.status = 401;
    server.last.fail();
    await pass(500);
    for (let i = 0; i < 8; i++) await pass(pauseLeft());
    server.status = "away";
    await pass(pauseLeft());
    expect(live.connection).toEqual({ state: "reconnecting", retryAt: env.monotonic() + 10_000 });
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

  test("is requested, and its numbers are stale without a frame a second", async () => {
    await pass();
    expect(server.last.query.get("page")).toBe("/x");
    server.last.snapshot({ ...filtered(0, 3, { upper_bound: true }), seconds: [] });
    await pass();
    expect(live.model).toMatchObject({ visitors: 3, upperBound: true });
    for (let at = 1; at < 20; at++) {
      server.last.frame(filtered(at, 3)); // nothing changes but the time
      await pass(1_000);
      expect(state()).toBe("live");
    }
    await pass(4_000);
    server.last.text(": hb\n\n");
    await pass();
    expect(state()).toBe("stale");
    server.last.frame(filtered(30, 2, { incomplete: true }));
    await pass();
    expect(state()).toBe("live");
    expect(live.model.incomplete).toBe(true);
    server.last.frame(filtered(30.5, 2));
    await pass();
    expect(live.model.incomplete).toBe(false);
    expect(live.model).toMatchObject({ visitors: 2, upperBound: false });
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 30}-0`);
  });

  test("that the server ignores shows no number", async () => {
    await pass();
    server.last.snapshot(snapshot(T, []));
    await pass();
    expect(live.model.visitors).toBe(null);
    expect(state()).toBe("reconnecting");
  });
});

describe("several sites on one connection", () => {
  const frameOf = (site: string, f: Frame): Frame => ({ ...f, site });
  beforeEach(async () => {
    begin({ sites: ["a", "B"] });
    await pass();
    server.last.snapshot({ ...frameOf("a", snapshot(T, [sec(T, 1)])), seconds: [sec(T, 1)] }, `1-${T}-0-2`);
    server.last.snapshot({ ...frameOf("b", snapshot(T, [])), seconds: [sec(T, 5)] }, `1-${T}-0-2`);
    await pass();
  });
  const views = (site: string) =>
    [...(live.models.get(site)?.seconds.values() ?? [])].map((s) => s.pageviews);

  test("each have a model", async () => {
    expect(server.last.query.getAll("site")).toEqual(["a", "B"]);
    server.last.frame(frameOf("b", frame(T + 1, 7)));
    server.last.frame(frameOf("c", frame(T + 1, 9)));
    await pass();
    expect(views("a")).toEqual([1]);
    expect(views("B")).toEqual([5, 7]);
    expect(live.model).toBe(live.models.get("a"));
    expect(state()).toBe("live");
  });

  test("resume from the oldest id", async () => {
    server.last.frame(frameOf("b", frame(T + 1, 7)), `1-${T + 1}-0-2`);
    server.last.frame(frameOf("a", frame(T + 2, 3)), `1-${T + 2}-0-2`);
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 1}-0-2`);
  });

  test("are replaced after a reset, each by its own snapshot", async () => {
    server.last.reset();
    for (const s of ["a", "b"])
      server.last.snapshot({ ...frameOf(s, snapshot(T + 900, [])), seconds: [sec(T + 900, 2)] });
    await pass();
    expect([views("a"), views("B")]).toEqual([[2], [2]]);
  });

  test("a connection lost before all snapshots resumes from no id", async () => {
    begin({ sites: ["a", "b"] });
    await pass();
    server.last.snapshot({ ...frameOf("a", snapshot(T, [])), seconds: [sec(T, 1)] });
    await pass();
    server.last.end();
    await pass(1_000);
    expect(server.last.query.get("lastEventId")).toBe(null);
    server.last.snapshot({ ...frameOf("a", snapshot(T + 200, [])), seconds: [sec(T + 200, 2)] });
    await pass();
    expect(views("a")).toEqual([2]);
  });
});

test("an error of the view is logged and doesn't end the stream", async () => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  let state = "";
  const faulty = new LiveStream(
    { sites: ["x"] },
    (l) => {
      state = l.connection.state;
      throw new Error("view");
    },
    env,
  );
  faulty.start();
  await pass();
  server.last.snapshot(snapshot(T, [sec(T, 1)]));
  await pass();
  expect(state).toBe("live");
  expect(logged).toHaveBeenCalledWith(new Error("view"));
  expect(server.last.closed).toBe(false);
  faulty.stop();
  logged.mockRestore();
});

test("a stream of no site is an error", () => {
  expect(() => new LiveStream({ sites: [] }, () => {}, env)).toThrow("at least one");
});

test("after stop it neither requests nor reports", async () => {
  await goLive();
  const before = live;
  stream.stop();
  stream.retryNow();
  stream.reconnect();
  stream.setHidden(true);
  await pass(120_000);
  expect(server.requests).toHaveLength(1);
  expect(server.last.closed).toBe(true);
  expect(live).toBe(before);
});
