/** A LiveStream on a fake server, with fake clocks. */
import { afterEach, beforeEach, expect, vi } from "vitest";
import { frame, Server, sec, snapshot, T } from "./fixtures";
import { type Environment, type Live, LiveStream, type Options } from "./stream";

export let server: Server;
export let live: Live;
export let stream: LiveStream;
let shift = { monotonic: 0, wallClock: 0 }; // offsets of the clocks, ms

export const env: Environment = {
  monotonic: () => performance.now() + shift.monotonic,
  wallClock: () => Date.now() + shift.wallClock,
  fetch: (url, init) => server.fetch(url, init),
  random: () => 0,
};

export function begin(options: Options) {
  stream?.stop();
  server = new Server();
  stream = new LiveStream(options, (l) => (live = l), env);
  stream.start();
}

/** Advances the clocks by ms; 0 delivers what was sent. */
export const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
export const state = () => live.connection.state;
/** Time until the next attempt, ms. */
export const pauseLeft = () => ("retryAt" in live.connection ? live.connection.retryAt - env.monotonic() : 0);
export const seconds = () =>
  [...live.model.seconds].map(([at, s]) => [at - T, s.pageviews] as const).sort((a, b) => a[0] - b[0]);

/** Sends a frame of one second of the log each second. */
export async function run(from: number, to: number, request = server.last) {
  for (let at = from; at <= to; at++) {
    request.frame(frame(T + at, at));
    await pass(1_000);
  }
}

export async function goLive() {
  await pass();
  server.last.text("retry: 1000\n\n");
  server.last.snapshot(snapshot(T, [sec(T, 1)]));
  await pass();
  expect(state()).toBe("live");
}

/** Sets the offsets of the clocks, ms. */
export function shiftClocks(by: typeof shift) {
  shift = by;
}

/** Starts a stream of the site x before each test of the file. */
export function setUpEachTest() {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.setSystemTime((T + 2) * 1000);
    shiftClocks({ monotonic: 0, wallClock: 0 });
    begin({ sites: ["x"] });
  });
  afterEach(() => {
    stream.stop();
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });
}
