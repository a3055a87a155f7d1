// @vitest-environment node
// Tests of the built tracker. Each test has its own page.
import { JSDOM } from "jsdom";
import { beforeAll, describe, expect, test } from "vitest";
import { bundle } from "./build.mjs";

type Beacon = {
  n: string;
  u: string;
  d?: string;
  r?: string;
  p?: object;
  $?: object;
  i?: boolean;
  id: string;
  sd?: number;
  e?: number;
};
// biome-ignore lint/suspicious/noExplicitAny: jsdom's window has no type with the test's globals
type Page = any;
type Setup = {
  url?: string;
  referrer?: string;
  domain?: string;
  api?: string;
  src?: string;
  hidden?: boolean;
  before?: (w: Page) => void;
};

let script = "";
let gzipped = 0;
let budget = 0;
beforeAll(async () => {
  ({ script, gzipped, budget } = await bundle());
});

/** Opens a page and runs the tracker in it. The test controls the page's clock, timers and network. */
function open({
  url = "https://example.com/a?x=1",
  referrer = "",
  domain = "example.com",
  api,
  src = "https://nowcast.example/js/script.js",
  hidden = false,
  before,
}: Setup = {}) {
  const w: Page = new JSDOM("<!doctype html><body></body>", {
    url,
    referrer: referrer || undefined,
    runScripts: "outside-only",
  }).window;
  const page = {
    w,
    now: 1_000_000,
    sent: [] as Beacon[], // by fetch
    beacons: [] as Beacon[], // by sendBeacon
    to: [] as string[],
    timers: [] as { run: () => void; ms: number }[],
    answer: 202, // 0: no network
    visible: !hidden,
    focused: true,
    fire(type: string, target: EventTarget = w) {
      target.dispatchEvent(
        Object.assign(new w.Event(type, { bubbles: true }), type === "pageshow" ? { persisted: true } : {}),
      );
    },
    show(visible: boolean) {
      page.visible = visible;
      page.fire("visibilitychange", w.document);
    },
    async settle() {
      for (let i = 0; i < 10; i++) await Promise.resolve();
    },
    /** Runs the timers that are set now. */
    async run() {
      for (const t of page.timers.splice(0)) t.run();
      await page.settle();
    },
    names: () => page.sent.map((b) => b.n),
  };
  const define = (o: object, name: string, get: () => unknown) =>
    Object.defineProperty(o, name, { get, configurable: true });
  const source = {
    dataset: api === undefined ? { domain } : { domain, api },
    src,
  };
  define(w.document, "currentScript", () => source);
  define(w.document, "visibilityState", () => (page.visible ? "visible" : "hidden"));
  define(w.document.documentElement, "scrollHeight", () => 4000);
  w.document.hasFocus = () => page.focused;
  w.innerHeight = 1000;
  w.Date.now = () => page.now;
  w.setTimeout = (run: () => void, ms: number) => page.timers.push({ run, ms });
  w.fetch = async (to: string, init: RequestInit) => {
    expect(init.method).toBe("POST");
    expect(init.keepalive).toBe(true);
    page.to.push(to);
    page.sent.push(JSON.parse(init.body as string));
    if (!page.answer) throw new TypeError("Failed to fetch");
    return { status: page.answer };
  };
  w.navigator.sendBeacon = (to: string, body: string) => {
    page.to.push(to);
    page.beacons.push(JSON.parse(body));
    return true;
  };
  before?.(w);
  w.eval(script);
  return page;
}

test("the bundle is smaller than its budget", () => {
  expect(gzipped).toBeLessThan(budget);
  expect(budget).toBe(1024);
});

describe("page views", () => {
  test("one on load, with its referrer", () => {
    const p = open({ referrer: "https://ref.example/x" });
    expect(p.sent).toEqual([
      {
        n: "pageview",
        u: "https://example.com/a?x=1",
        d: "example.com",
        r: "https://ref.example/x",
        id: expect.stringMatching(/^0\.\d+/),
      },
    ]);
    expect(p.to).toEqual(["https://nowcast.example/api/event"]);
  });

  test("the endpoint is below the path that the script is below", () => {
    const src = "https://example.com/stats/js/script.js";
    expect(open({ src }).to).toEqual(["https://example.com/stats/api/event"]);
  });

  test("data-api sets the endpoint", () => {
    expect(open({ api: "https://stats.example/e" }).to).toEqual(["https://stats.example/e"]);
  });

  test("a URL over the server's limit is cut", () => {
    expect(open({ url: `https://example.com/?q=${"a".repeat(3000)}` }).sent[0]?.u).toHaveLength(2000);
  });

  test("navigation by the history API counts if the path changes", () => {
    const p = open();
    p.w.history.replaceState({}, "", "/a?x=2");
    p.w.history.pushState({}, "", "/a#there");
    p.w.history.pushState({}, "", "/b");
    p.w.history.replaceState({}, "", "/c");
    expect(p.sent.map((b) => b.u)).toEqual([
      "https://example.com/a?x=1",
      "https://example.com/b",
      "https://example.com/c",
    ]);
    expect(p.w.location.pathname).toBe("/c");
  });

  test("navigation back counts", async () => {
    const p = open();
    p.w.history.pushState({}, "", "/b");
    p.w.history.back();
    await expect
      .poll(() => p.run().then(() => p.sent.map((b) => new URL(b.u).pathname)))
      .toEqual(["/a", "/b", "/a"]);
  });

  test("a page restored from the back/forward cache counts again", () => {
    const p = open();
    p.fire("pageshow");
    expect(p.names()).toEqual(["pageview", "pageview"]);
  });

  test("a background tab or a prerendered page counts once, when it is visible", () => {
    const p = open({ hidden: true });
    p.w.history.replaceState({}, "", "/b");
    expect(p.sent).toEqual([]);
    p.show(true);
    p.show(false);
    p.show(true);
    expect(p.sent.map((b) => b.u)).toEqual(["https://example.com/b"]);
  });
});

describe("ignored visitors", () => {
  const webdriver = (w: Page) => Object.defineProperty(w.navigator, "webdriver", { value: true });
  test.each<[string, Setup, number]>([
    ["localhost", { url: "http://localhost:3000/" }, 0],
    ["127.0.0.1", { url: "http://127.0.0.1/" }, 0],
    ["::1", { url: "http://[::1]:80/" }, 0],
    ["a file", { url: "file:///a.html" }, 0],
    ["localhost, for the site of that name", { url: "http://localhost:3000/", domain: "localhost" }, 1],
    ["127.0.0.1, for the site localhost", { url: "http://127.0.0.1:3000/", domain: "localhost" }, 1],
    ["an automated browser", { before: webdriver }, 0],
    [
      "an automated browser with __plausible",
      { before: (w) => webdriver(Object.assign(w, { __plausible: true })) },
      1,
    ],
    [
      "a visitor with plausible_ignore",
      { before: (w) => w.localStorage.setItem("plausible_ignore", "true") },
      0,
    ],
    [
      "nobody, if storage is forbidden",
      {
        before: (w) =>
          Object.defineProperty(w, "localStorage", {
            get: () => {
              throw new Error("denied");
            },
          }),
      },
      1,
    ],
  ])("%s", (_, setup, count) => {
    const p = open(setup);
    let called = 0;
    p.w.nowcast("Signup", { callback: () => called++ });
    expect(p.sent.length).toBe(count * 2);
    expect(called).toBe(1 - count); // at once if nothing is sent
  });
});

describe("custom events", () => {
  test("with props, revenue, interactive, callback and url", async () => {
    const p = open();
    let answer: { status: number } | undefined;
    p.w.nowcast("Signup", {
      props: { plan: "pro" },
      revenue: { amount: 9.99, currency: "USD" },
      interactive: false,
      callback: (a: { status: number }) => {
        answer = a;
      },
      url: "https://example.com/else",
    });
    await p.settle();
    expect(p.sent[1]).toMatchObject({
      n: "Signup",
      u: "https://example.com/else",
      p: { plan: "pro" },
      $: { amount: 9.99, currency: "USD" },
      i: false,
    });
    expect(answer?.status).toBe(202);
  });

  test("by the other name", () => {
    const p = open();
    p.w.plausible("Outbound");
    expect(p.names()).toEqual(["pageview", "Outbound"]);
  });

  test("calls before the tracker is loaded", () => {
    const p = open({
      before: (w) =>
        w.eval(`for (const n of ["plausible", "nowcast"]) {
          window[n] = function () { (window[n].q = window[n].q || []).push(arguments) };
          window[n]("early " + n, { props: { a: 1 } });
        }`),
    });
    expect(p.names()).toEqual(["pageview", "early plausible", "early nowcast"]);
    expect(p.sent[1]?.p).toEqual({ a: 1 });
  });
});

describe("engagement", () => {
  test("depth and time are sent by beacon when the page is hidden", () => {
    const p = open();
    p.now += 4000;
    p.w.scrollY = 1000;
    p.fire("scroll");
    p.w.scrollY = 0;
    p.fire("scroll");
    p.show(false);
    p.fire("pagehide");
    expect(p.beacons).toEqual([
      expect.objectContaining({
        n: "engagement",
        u: "https://example.com/a?x=1",
        sd: 50,
        e: 4000,
        d: "example.com",
      }),
    ]);
    expect(p.names()).toEqual(["pageview"]);
  });

  test("only time with focus counts", () => {
    const p = open();
    p.now += 1000;
    p.focused = false;
    p.fire("blur"); // the depth is new
    p.now += 60_000;
    p.focused = true;
    p.fire("focus");
    p.now += 2000;
    p.show(false); // 2 s and no deeper: under the threshold
    p.now += 60_000;
    p.show(true);
    p.now += 1500;
    p.show(false);
    expect(p.beacons.map((b) => [b.sd, b.e])).toEqual([
      [25, 1000],
      [25, 3500],
    ]);
  });

  test("navigation ends the engagement with a page", () => {
    const p = open();
    p.now += 5000;
    p.w.history.pushState({}, "", "/b");
    p.now += 7000;
    p.w.history.pushState({}, "", "/c");
    expect(p.beacons.map((b) => [new URL(b.u).pathname, b.e])).toEqual([
      ["/a", 5000],
      ["/b", 7000],
    ]);
  });

  test("fetch replaces a beacon that the browser refuses", () => {
    const p = open();
    p.w.navigator.sendBeacon = () => false;
    p.show(false);
    expect(p.names()).toEqual(["pageview", "engagement"]);
  });
});

describe("a failed event", () => {
  test.each([0, 500, 503])("is retried with the same id (%i)", async (status) => {
    const p = open();
    p.answer = status;
    let answered = 0;
    p.w.nowcast("Signup", { callback: () => answered++ });
    await p.settle();
    expect(p.timers).toHaveLength(1);
    expect(p.timers[0]?.ms).toBeLessThanOrEqual(2000);
    p.answer = 202;
    await p.run();
    const [, first, second] = p.sent;
    expect(second).toEqual(first);
    expect(p.sent).toHaveLength(3);
    expect(p.timers).toHaveLength(0);
    expect(answered).toBe(1);
  });

  test("is not retried after a 400", async () => {
    const p = open();
    p.answer = 400;
    p.w.nowcast("Signup");
    await p.settle();
    expect(p.timers).toHaveLength(0);
  });

  test("is retried at once when the network is back", async () => {
    const p = open();
    p.answer = 0;
    p.w.nowcast("Signup");
    await p.settle();
    p.answer = 202;
    p.fire("online");
    await p.settle();
    expect(p.names()).toEqual(["pageview", "Signup", "Signup"]);
    await p.run();
    expect(p.sent).toHaveLength(3);
  });

  test("is sent by beacon when the page is closed", async () => {
    const p = open();
    p.answer = 0;
    p.w.nowcast("Signup");
    await p.settle();
    p.fire("pagehide");
    expect(p.beacons.map((b) => b.n)).toEqual(["engagement", "Signup"]);
    expect(p.beacons[1]?.id).toBe(p.sent[1]?.id);
  });

  test("is bounded: 20 events, 5 minutes, with backoff", async () => {
    const p = open();
    await p.settle();
    p.answer = 0;
    for (let i = 0; i < 50; i++) p.w.nowcast(`e${i}`);
    await p.settle();
    let tries = 0;
    for (; p.timers.length && tries < 1000; tries++) {
      expect(p.timers).toHaveLength(1);
      const ms = p.timers[0]?.ms ?? 0;
      expect(ms).toBeLessThanOrEqual(32_000);
      p.now += ms;
      const before = p.sent.length;
      await p.run();
      expect(p.sent.length - before).toBe(20);
    }
    expect(tries).toBeLessThan(200);
    expect(p.now - 1_000_000).toBeGreaterThanOrEqual(300_000);
  });
});
