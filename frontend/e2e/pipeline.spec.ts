import { expect, type Page, test } from "@playwright/test";
import { BROWSER_USER_AGENT, Nowcast, website } from "./nowcast";
import { connection, expectAccessible, visitors } from "./page";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
});
test.afterAll(async () => {
  await nowcast.end();
});

/** Collects the page's console errors, exceptions and requests to other hosts. */
function collectErrors(page: Page): string[] {
  const errors: string[] = [];
  page.on("console", (m) => m.type() === "error" && errors.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => errors.push(`error: ${e.message}`));
  page.on("request", (r) => {
    const { hostname } = new URL(r.url());
    if (hostname !== "127.0.0.1" && hostname !== "localhost") errors.push(`request to ${hostname}`);
  });
  return errors;
}

test("a page on another origin with the snippet shows up within a second", async ({ page, browser }) => {
  const errors = collectErrors(page);
  const snippet = `<script defer data-domain="localhost" src="${nowcast.url}/js/script.js"></script>`;
  const site = await website({
    "/": `<!doctype html><title>Home</title>${snippet}<a href="/pricing">Pricing</a>`,
    "/pricing": `<!doctype html><title>Pricing</title>${snippet}`,
  });
  await page.goto(`${nowcast.url}/localhost`);
  await expect(connection(page)).toHaveAttribute("data-state", "live");
  const context = await browser.newContext({ userAgent: BROWSER_USER_AGENT });
  const customer = await context.newPage();
  // The tracker ignores an automated browser, which this flag reveals.
  await customer.addInitScript(() =>
    Object.defineProperty(Object.getPrototypeOf(navigator), "webdriver", { get: () => false }),
  );
  await customer.goto(`${site.origin}/`);
  const opened = Date.now();
  await expect(visitors(page)).toHaveText("1", { timeout: 5_000 });
  expect(Date.now() - opened).toBeLessThan(1_000);
  await expect(page.getByTestId("now-pages")).toContainText("/");
  await customer.getByText("Pricing").click();
  await expect(page.getByTestId("now-pages")).toContainText("/pricing");
  await expect(visitors(page)).toHaveText("1");
  await customer.evaluate(() => history.pushState({}, "", "/by-history"));
  await expect(page.getByTestId("now-pages")).toContainText("/by-history");
  await customer.evaluate(() =>
    (window as unknown as { nowcast: (n: string, o?: object) => void }).nowcast("Signup", {
      props: { plan: "pro" },
    }),
  );
  await expect
    .poll(async () => {
      const r = await nowcast.api("POST", "/api/v2/query", {
        site_id: "localhost",
        metrics: ["events"],
        date_range: "day",
        dimensions: ["event:name"],
      });
      return JSON.stringify(((await r.json()) as { results?: unknown }).results);
    })
    .toContain("Signup");
  await context.close();
  site.close();
  expect(errors).toEqual([]);
});

test("an EventSource works on the default stream", async ({ page }) => {
  await page.goto(`${nowcast.url}/api/v1/session`);
  const seen = await page.evaluate(
    () =>
      new Promise<unknown>((done) => {
        const all: { visitors: number; timestamp: string }[] = [];
        const source = new EventSource("/api/events");
        source.onmessage = (e) => {
          all.push(JSON.parse(e.data));
          if (all.length === 3) {
            source.close();
            done(all);
          }
        };
      }),
  );
  for (const f of seen as { visitors: number; timestamp: string }[]) {
    expect(typeof f.visitors).toBe("number");
    expect(new Date(f.timestamp).getTime()).toBeGreaterThan(Date.now() - 60_000);
  }
});

test("after a kill -9 an EventSource reconnects without a lost or duplicate second", async ({ page }) => {
  const site = "restart.example.com";
  await nowcast.addSite(site);
  await page.goto(`${nowcast.url}/api/v1/session`);
  await page.evaluate((s) => {
    const w = window as unknown as { seconds: [string, number][] };
    w.seconds = [];
    const source = new EventSource(`/api/events?site=${s}`);
    type Second = { at: string; pageviews: number; final: boolean };
    const addFinal = (x?: Second) => x?.final && w.seconds.push([x.at, x.pageviews]);
    source.onmessage = (e) => addFinal(JSON.parse(e.data).second);
    source.addEventListener("snapshot", (e) => {
      for (const x of JSON.parse((e as MessageEvent).data).seconds) addFinal(x);
    });
  }, site);
  for (let i = 0; i < 20; i++) await nowcast.view(site, "/", i);
  const views = () =>
    page.evaluate(() =>
      (window as unknown as { seconds: [string, number][] }).seconds.reduce((n, s) => n + s[1], 0),
    );
  await expect.poll(views, { timeout: 15_000 }).toBe(20);
  await nowcast.down("SIGKILL");
  await nowcast.up();
  for (let i = 0; i < 20; i++) await nowcast.view(site, "/", i);
  await expect.poll(views, { timeout: 30_000 }).toBe(40);
  const at = await page.evaluate(() =>
    (window as unknown as { seconds: [string, number][] }).seconds.map((s) => s[0]),
  );
  expect(new Set(at).size).toBe(at.length);
});

test("the dashboard shows that it isn't live, and recovers by itself", async ({ page }) => {
  const site = "recover.example.com";
  await nowcast.addSite(site);
  await nowcast.view(site, "/a", 1);
  await page.goto(`${nowcast.url}/${site}`);
  await expect(visitors(page)).toHaveText("1");
  await nowcast.down("SIGKILL");
  await expect(connection(page)).not.toHaveAttribute("data-state", "live", { timeout: 10_000 });
  await nowcast.up();
  await expect(connection(page)).toHaveAttribute("data-state", "live", { timeout: 30_000 });
  await nowcast.view(site, "/b", 2);
  await expect(visitors(page)).toHaveText("2");
});

test("history has all that was sent", async ({ page }) => {
  const errors = collectErrors(page);
  const site = "history.example.com";
  await nowcast.addSite(site);
  for (let i = 0; i < 30; i++)
    await nowcast.view(site, `/page-${i % 3}`, i % 10, i % 2 ? "https://www.google.com/" : "");
  await page.goto(`${nowcast.url}/${site}/history`);
  await expect
    .poll(
      async () => {
        await page.reload();
        return page.getByTestId("total-pageviews").filter({ hasText: /\d/ }).textContent();
      },
      { timeout: 20_000, intervals: [1_000] },
    )
    .toContain("30");
  // The page queries its cards before the totals. In the load that first had all events in its totals, a card may
  // have been counted before them, and it is refreshed only after half a minute.
  await page.reload();
  await expect(page.getByTestId("total-pageviews")).toContainText("30");
  await expect(page.getByTestId("total-visitors")).toContainText("10");
  await expect(page.getByText("/page-1").first()).toBeVisible();
  await expect(page.getByText("Google").first()).toBeVisible();
  expect(errors).toEqual([]);
});

test("only a session sees the ledger", async ({ page }) => {
  const site = "ledger.example.com";
  await nowcast.addSite(site);
  for (let i = 0; i < 5; i++) await nowcast.view(site, "/", i);
  for (let i = 0; i < 2; i++)
    await fetch(`${nowcast.url}/api/event`, {
      method: "POST",
      headers: { "User-Agent": "Acme-Bot/1.0" },
      body: JSON.stringify({ n: "pageview", d: site, u: `https://${site}/` }),
    });
  await page.goto(`${nowcast.url}/${site}/history`);
  await expect(page.getByTestId("total-pageviews")).toBeVisible();
  await expect(page.getByText("Beacon outcomes")).toHaveCount(0);
  await page.goto(nowcast.loginUrl);
  await expect
    .poll(
      async () => {
        await page.goto(`${nowcast.url}/${site}/history`);
        await expect(page.getByText("Beacon outcomes")).toBeVisible();
        // Without a stored beacon there is no table, and the page wouldn't load one in time.
        const table = page.getByRole("table").filter({ hasText: "Received" }).last();
        return table.textContent({ timeout: 2_000 }).catch(() => "");
      },
      { timeout: 20_000, intervals: [1_000] },
    )
    .toMatch(/Counted5.*sent by a bot2.*Received7/s);
  await expectAccessible(page);
});

test("a site added in the browser turns live with its first page view", async ({ page }) => {
  await page.goto(nowcast.loginUrl);
  await page
    .getByRole("button", { name: /add (a )?site/i })
    .first()
    .click();
  await page.getByRole("textbox").first().fill("new.example.com");
  await page.keyboard.press("Enter");
  await expect(page.getByText(/waiting for the first page view/i)).toBeVisible();
  await expect(page.getByText("script.js").first()).toBeVisible();
  await nowcast.view("new.example.com", "/first", 1);
  await expect(visitors(page)).toHaveText("1", { timeout: 10_000 });
});

for (const path of ["/localhost", "/localhost/history", "/"]) {
  test(`axe finds nothing on ${path}`, async ({ page }) => {
    await page.goto(nowcast.loginUrl);
    await page.goto(nowcast.url + path);
    await page.waitForTimeout(1_500);
    await expectAccessible(page);
  });
}

test("the layout doesn't shift while it loads, and fits 320 px", async ({ page }) => {
  await page.setViewportSize({ width: 320, height: 640 });
  for (const path of ["/localhost", "/localhost/history"]) {
    await page.addInitScript(() => {
      const w = window as unknown as { shift: number };
      w.shift = 0;
      new PerformanceObserver((l) => {
        for (const e of l.getEntries()) w.shift += (e as unknown as { value: number }).value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    await page.goto(nowcast.url + path);
    await page.waitForTimeout(1_500);
    expect(await page.evaluate(() => (window as unknown as { shift: number }).shift)).toBeLessThan(0.1);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
  }
});
