import { expect, test, vi } from "vitest";
import { frame, iso, mergedFrame, T } from "./fixtures";
import { CHART_SECONDS } from "./model";
import { goLive, live, pass, run, server, setUpEachTest, shiftClocks, state, stream } from "./stream-fixture";

setUpEachTest();

/** All that the stream holds on to, by its number of values. */
function held(): number {
  const ofStream = stream as unknown as Record<string, unknown>;
  let n = 0;
  for (const value of Object.values(ofStream)) {
    if (value instanceof Map || value instanceof Set) n += value.size;
    else if (Array.isArray(value)) n += value.length;
  }
  for (const m of live.models.values()) n += m.seconds.size + (m.now?.pages.length ?? 0);
  return n;
}

test("a page left open for a day, over midnight: bounded and current, also while it is hidden", async () => {
  await goLive(); // at noon, UTC
  const day = 86_400;
  const isVisible = (at: number) => [0, day / 2, day].some((moment) => Math.abs(at - moment) < 600);
  const reconnected = (at: number) => {
    expect(server.last.query.has("lastEventId")).toBe(true);
    server.last.snapshot({ ...frame(T + at, 1), seconds: [] });
  };
  let [midnights, mostHeld, mostTimers, connections, openedAt] = [0, 0, 0, 1, 0];
  let hidden = false;
  for (let at = 0; at < day; ) {
    const step = hidden ? 5 : 1;
    if (iso(T + at + step).slice(0, 10) !== iso(T + at).slice(0, 10)) midnights++;
    at += step;
    server.last.frame(hidden ? mergedFrame(T + at - 4, T + at, 7) : frame(T + at, 1 + (at % 5)));
    await pass(step * 1_000);
    if (at - openedAt >= 3_600) {
      // The server ends a stream after an hour.
      server.last.text("retry: 1000\n\n");
      server.last.end();
      await pass(1_000);
      reconnected(at);
      [connections, openedAt] = [connections + 1, at];
    }
    if (isVisible(at) === hidden) {
      hidden = !hidden;
      stream.setHidden(hidden);
      await pass();
      reconnected(at);
      [connections, openedAt] = [connections + 1, at];
    }
    if (at % 95 === 0) {
      await pass();
      expect(state()).toBe("live");
      expect(live.model.finalThrough).toBe(T + at);
      expect(live.model.timestamp).toBe((T + at + 1) * 1_000);
      mostHeld = Math.max(mostHeld, held());
      mostTimers = Math.max(mostTimers, vi.getTimerCount());
    }
  }
  expect(midnights).toBe(1);
  expect(live.model.seconds.size).toBeGreaterThan(CHART_SECONDS - 10);
  expect(mostHeld).toBeLessThan(CHART_SECONDS + 200);
  expect(mostTimers).toBeLessThan(4);
  expect(server.requests.length).toBe(connections);
}, 120_000);

test("a page left open on a laptop that sleeps for the night: current a second after it wakes", async () => {
  await goLive();
  await run(1, 60);
  const night = 9 * 3_600;
  shiftClocks({ monotonic: 0, wallClock: night * 1_000 });
  await pass(1_000);
  server.last.text("event: reset\ndata: {}\n\n");
  server.last.snapshot({ ...frame(T + 60 + night, 3), seconds: [] });
  await pass();
  expect(state()).toBe("live");
  expect(live.model.finalThrough).toBe(T + 60 + night);
  expect(live.model.seconds.size).toBeLessThan(2);
});
