import { describe, expect, test } from "vitest";
import { frame, mergedFrame, sec, snapshot, T } from "./fixtures";
import {
  begin,
  goLive,
  live,
  pass,
  pauseLeft,
  run,
  seconds,
  server,
  setUpEachTest,
  shiftClocks,
  state,
  stream,
} from "./stream-fixture";

setUpEachTest();

describe("time", () => {
  test("stale: the connection is open without new numbers", async () => {
    await goLive();
    for (let i = 0; i < 5; i++) {
      server.last.text(": hb\n\n");
      await pass(1_000);
    }
    expect(live.connection).toEqual({ state: "stale", since: (T + 1) * 1000 });
    server.last.frame(frame(T, 1)); // an outdated frame
    await pass();
    expect(state()).toBe("stale");
    server.last.frame(frame(T + 6, 1));
    await pass();
    expect(state()).toBe("live");
    expect(server.requests).toHaveLength(1);
  });

  test("silent: replaces the connection", async () => {
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
    ["forward an hour, without a Date", 3_600_000, false],
    ["back an hour", -3_600_000, true],
    ["forward five seconds", 5_000, true],
    ["back five seconds", -5_000, true],
  ])(
    "the wall clock is set %s: fresh numbers stay live, old ones turn stale",
    async (_name, ms, sendsDate) => {
      await goLive();
      await run(1, 3);
      shiftClocks({ monotonic: 0, wallClock: ms });
      if (sendsDate) server.headers = { Date: new Date(Date.now()).toUTCString() };
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
    },
  );

  test.each([
    ["with the monotonic clock", { monotonic: 60_000, wallClock: 60_000 }],
    ["and the monotonic clock stopped", { monotonic: 0, wallClock: 60_000 }],
  ])("the machine slept %s: reconnects at once", async (_name, by) => {
    await goLive();
    shiftClocks(by);
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

  test("the machine slept during a pause: retries at once", async () => {
    server.status = 404;
    server.last.fail();
    await pass();
    for (let i = 0; i < 9; i++) await pass(pauseLeft());
    const requests = server.requests.length;
    await pass(5_000);
    expect(server.requests).toHaveLength(requests);
    shiftClocks({ monotonic: 0, wallClock: 600_000 });
    await pass(1_000);
    expect(server.requests).toHaveLength(requests + 2);
  });

  test("a timer a minute, as in a hidden tab, is no sleep", async () => {
    await goLive();
    stream.setHidden(true);
    await pass();
    server.last.snapshot(snapshot(T + 1, []));
    const requests = server.requests.length;
    for (let i = 1; i < 4; i++) {
      shiftClocks({ monotonic: i * 60_000, wallClock: i * 60_000 });
      server.last.frame(mergedFrame(T + 60 * i - 4, T + 60 * i, 5));
      await pass(); // the frame arrives before the late timer
      await pass(1_000);
    }
    expect(server.requests).toHaveLength(requests);
    expect(state()).toBe("live");
  });

  test("an offline hour: a reset replaces the model", async () => {
    await goLive();
    server.status = "away";
    server.last.fail();
    for (let i = 0; i < 60; i++) await pass(60_000);
    expect(state()).toBe("reconnecting");
    server.status = 200;
    stream.reconnect();
    await pass();
    expect(server.last.query.get("lastEventId")).toBe(`1-${T}-0`);
    server.last.reset();
    server.last.snapshot(snapshot(T + 3_600, [sec(T + 3_600, 3)]));
    await pass();
    expect(state()).toBe("live");
    expect(seconds()).toEqual([[3_600, 3]]);
    expect(live.model.completeFrom).toBe(T + 3_300);
  });

  test("a recreated log with older numbers is live", async () => {
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

  test("a clock that is wrong by minutes doesn't increase the delay", async () => {
    shiftClocks({ monotonic: 0, wallClock: 240_000 });
    begin({ sites: ["x"] });
    server.headers = { Date: new Date(Date.now()).toUTCString() };
    stream.reconnect();
    await goLive();
    await run(1, 8);
    expect(live.delay?.p50).toBeLessThan(2_000);
  });
});

describe("a hidden tab", () => {
  test("has a slower rate, and on return gets the exact seconds", async () => {
    await goLive();
    await run(1, 2);
    stream.setHidden(true);
    await pass();
    expect(server.last.query.get("rate")).toBe("5s");
    expect(server.last.query.get("lastEventId")).toBe(`1-${T + 2}-0`);
    server.last.snapshot(snapshot(T + 3, [sec(T + 3, 3)]));
    for (const end of [8, 13]) {
      server.last.frame(mergedFrame(T + end - 4, T + end, 10));
      await pass(5_000);
      expect(state()).toBe("live");
    }
    expect(live.model.seconds.get(T + 8)).toMatchObject({ pageviews: 2, merged: true });
    server.last.frame(frame(T + 14, 1)); // not merged itself, but it doesn't resolve those before it
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

  test("that was frozen for an hour is stale on return", async () => {
    await goLive();
    stream.setHidden(true);
    await pass();
    server.last.snapshot(snapshot(T + 1, []));
    await pass();
    expect(state()).toBe("live");
    shiftClocks({ monotonic: 3_600_000, wallClock: 3_600_000 });
    stream.setHidden(false);
    expect(state()).toBe("stale");
  });

  test("retries at once on return", async () => {
    stream.setHidden(true);
    server.status = 403;
    server.last.fail();
    for (let i = 0; i < 9; i++) await pass(60_000);
    const requests = server.requests.length;
    stream.setHidden(false);
    expect(server.requests).toHaveLength(requests + 1);
  });
});
