// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Server, sec, snapshot, T } from "./fixtures";
import { follow } from "./follow";
import type { Live } from "./stream";

let server: Server;
let live: Live;
let hidden: boolean;
let stop: () => void;
let retryNow: () => void;

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
function setVisible(visible: boolean) {
  hidden = !visible;
  document.dispatchEvent(new Event("visibilitychange"));
}
async function goRefused() {
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
  ({ stop, retryNow } = follow({ sites: ["x"] }, (l) => (live = l)));
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
  ["the viewer retries", () => retryNow()],
  [
    "the tab is shown again",
    () => {
      setVisible(false);
      setVisible(true);
    },
  ],
])("refused, and %s: retries at once", async (_name, happen) => {
  const requests = await goRefused();
  expect(live.connection.state).toBe("refused");
  happen();
  expect(server.requests).toHaveLength(requests + 1);
  server.last.snapshot(snapshot(T, [sec(T, 1)]));
  await pass();
  expect(live.connection.state).toBe("live");
});

test("an open connection stays on focus, and is replaced when the network comes back", async () => {
  server.last.snapshot(snapshot(T, []));
  await pass();
  window.dispatchEvent(new Event("focus"));
  expect(server.requests).toHaveLength(1);
  window.dispatchEvent(new Event("online"));
  expect(server.requests).toHaveLength(2);
  expect(server.requests[0]?.closed).toBe(true);
});

test.each([3_600_000, -3_600_000])(
  "a wall clock that is set by %i ms changes neither live nor stale",
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

test("a hidden tab has a slower rate, also if it starts hidden", async () => {
  setVisible(false);
  expect(server.last.query.get("rate")).toBe("5s");
  setVisible(true);
  expect(server.last.query.get("rate")).toBe("250ms");
  stop();
  hidden = true;
  ({ stop } = follow({ sites: ["x"] }, () => {}));
  expect(server.last.query.get("rate")).toBe("5s");
});

test("after stop it reacts to no event", async () => {
  stop();
  const requests = server.requests.length;
  for (const e of ["focus", "online"]) window.dispatchEvent(new Event(e));
  setVisible(false);
  setVisible(true);
  await pass(120_000);
  expect(server.requests).toHaveLength(requests);
  expect(vi.getTimerCount()).toBe(0);
});
