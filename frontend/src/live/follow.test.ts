// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Server, sec, snapshot, T } from "./fixtures";
import { follow } from "./follow";
import type { Live } from "./stream";

let server: Server;
let live: Live;
let hidden: boolean;
let stop: () => void;
let again: () => void;

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
function show(shown: boolean) {
  hidden = !shown;
  document.dispatchEvent(new Event("visibilitychange"));
}
async function refused() {
  server.status = 404;
  server.last.fail();
  await pass();
  for (let i = 0; i < 8; i++) await pass(90_000);
  server.status = 200;
  return server.requests.length;
}

beforeEach(() => {
  vi.useFakeTimers();
  hidden = false;
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
  server = new Server();
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => server.fetch(url, init));
  ({ stop, again } = follow({ sites: ["x"] }, (l) => (live = l)));
});
afterEach(() => {
  stop();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test.each<[string, () => void]>([
  ["the window gets the focus", () => window.dispatchEvent(new Event("focus"))],
  ["the network comes back", () => window.dispatchEvent(new Event("online"))],
  ["somebody asks", () => again()],
  [
    "the tab is shown again",
    () => {
      show(false);
      show(true);
    },
  ],
])("refused, and %s: it asks again at once", async (_name, happen) => {
  const asked = await refused();
  expect(live.connection.state).toBe("refused");
  happen();
  expect(server.requests).toHaveLength(asked + 1);
  server.last.snapshot(snapshot(T, [sec(T, 1)]));
  await pass();
  expect(live.connection.state).toBe("live");
});

test("a connection that is there stays when the window gets the focus, and is made new when the network comes back", async () => {
  server.last.snapshot(snapshot(T, []));
  await pass();
  window.dispatchEvent(new Event("focus"));
  expect(server.requests).toHaveLength(1);
  window.dispatchEvent(new Event("online"));
  expect(server.requests).toHaveLength(2);
  expect(server.requests[0]?.closed).toBe(true);
});

test.each([3_600_000, -3_600_000])(
  "the wall's clock is set by %i ms: numbers are live, then stale, all the same",
  async (ms) => {
    server.last.snapshot(snapshot(T, []));
    await pass();
    vi.setSystemTime(Date.now() + ms);
    await pass(900);
    expect(live.connection.state).toBe("live");
    server.last.snapshot(snapshot(T + 1, []));
    await pass(3_000);
    server.last.snapshot(snapshot(T + 2, []));
    await pass(2_000);
    expect(live.connection.state).toBe("live");
    vi.setSystemTime(Date.now() + ms);
    await pass(3_000);
    expect(live.connection.state).not.toBe("live");
  },
);

test("a hidden tab has a slower rate, also from its start", async () => {
  show(false);
  expect(server.last.query.get("rate")).toBe("5s");
  show(true);
  expect(server.last.query.get("rate")).toBe("250ms");
  stop();
  hidden = true;
  ({ stop } = follow({ sites: ["x"] }, () => {}));
  expect(server.last.query.get("rate")).toBe("5s");
});

test("stopped, it listens to nothing", async () => {
  stop();
  const asked = server.requests.length;
  for (const e of ["focus", "online"]) window.dispatchEvent(new Event(e));
  show(false);
  show(true);
  await pass(120_000);
  expect(server.requests).toHaveLength(asked);
  expect(vi.getTimerCount()).toBe(0);
});
