import { resolve } from "node:path";
import { type BrowserContext, expect, type Page, test } from "@playwright/test";
import { build } from "esbuild";
import type { Live } from "../src/live/stream";
import { Nowcast } from "./nowcast";
import { nextjs, nginx, type ReverseProxy, vite } from "./proxy";

let nowcast: Nowcast;
let client: string; // bundle of the live client, as another app uses it
const proxies: ReverseProxy[] = [];

test.beforeAll(async () => {
  nowcast = await Nowcast.start();
  const bundle = await build({
    entryPoints: [resolve(import.meta.dirname, "../src/live/follow.ts")],
    bundle: true,
    write: false,
    format: "iife",
    globalName: "client",
  });
  client = `${bundle.outputFiles[0]?.text}; window.client = client;`;
});
test.afterAll(async () => {
  await Promise.all(proxies.map((p) => p.stop()));
  await nowcast.end();
});

interface PageGlobals {
  client: typeof import("../src/live/follow");
  live: Live;
}

/** The page views by second in the snapshot of a new stream, without a proxy. */
async function snapshotViews(site: string): Promise<Record<string, number>> {
  const stop = new AbortController();
  const r = await fetch(`${nowcast.url}/api/events?site=${site}`, { signal: stop.signal });
  const text = new TextDecoder();
  let received = "";
  for await (const piece of r.body as unknown as AsyncIterable<Uint8Array>) {
    received += text.decode(piece, { stream: true });
    if (/event: snapshot\n.*\n.*\n\n/.test(received)) break;
  }
  stop.abort();
  const { seconds } = JSON.parse(/data: (.*)/.exec(received)?.[1] ?? "") as {
    seconds: { at: string; pageviews: number }[];
  };
  return Object.fromEntries(seconds.map((s) => [String(Date.parse(s.at) / 1000), s.pageviews]));
}

interface OpenedSite {
  name: string;
  site: string;
  page: Page;
}

/** Opens the live page through a proxy, and the live client in the same page. */
async function open(
  context: BrowserContext,
  name: string,
  startProxy: (nowcast: string) => Promise<ReverseProxy>,
): Promise<OpenedSite> {
  const proxy = await startProxy(nowcast.url);
  proxies.push(proxy);
  const site = `${name}.example.com`;
  await nowcast.addSite(site);
  const page = await context.newPage();
  const stream = page.waitForResponse((r) => r.url().includes("/api/events"));
  await page.goto(`${proxy.url}/${site}`);
  await expect(page.getByTestId("connection"), name).toHaveAttribute("data-state", "live");
  const headers = (await stream).headers();
  expect(headers["content-type"], name).toBe("text/event-stream");
  expect(headers["content-encoding"], name).toBeUndefined();
  await page.evaluate(client);
  await page.evaluate((s) => {
    const w = window as unknown as PageGlobals;
    w.client.follow({ sites: [s] }, (live) => {
      w.live = live;
    });
  }, site);
  return { name, site, page };
}

/** The page views by second in the live client; -1 while a second isn't final. */
const views = ({ page }: OpenedSite) =>
  page.evaluate(() => {
    const { model } = (window as unknown as PageGlobals).live;
    return Object.fromEntries([...model.seconds].map(([at, s]) => [String(at), s.final ? s.pageviews : -1]));
  });

const sum = async (s: OpenedSite) => Object.values(await views(s)).reduce((n, x) => n + x, 0);

async function sendViews({ site }: OpenedSite, from: number, to: number) {
  for (let i = from; i < to; i++) await nowcast.view(site, "/", i);
}

test("behind nginx, Vite and Next.js a kill -9 neither loses nor duplicates a second", async ({
  context,
}) => {
  test.setTimeout(180_000); // a busy machine takes up to a minute to build the Next.js app
  const opened = await Promise.allSettled([
    open(context, "nginx", nginx),
    open(context, "vite", vite),
    open(context, "next", nextjs),
  ]);
  // Every proxy has started or failed by now, so that afterAll stops all of them.
  const all = opened.map((o) => {
    if (o.status === "rejected") throw o.reason;
    return o.value;
  });
  for (const s of all) {
    await sendViews(s, 0, 20);
    await expect(s.page.getByTestId("visitors"), s.name).toHaveText("20");
    await expect.poll(() => sum(s), s.name).toBe(20);
  }
  await nowcast.down("SIGKILL");
  for (const s of all)
    await expect(s.page.getByTestId("connection"), s.name).toHaveAttribute("data-state", "reconnecting");
  await nowcast.up();
  for (const s of all) await sendViews(s, 20, 40);
  for (const s of all) {
    await expect(s.page.getByTestId("visitors"), s.name).toHaveText("40", { timeout: 20_000 });
    await expect.poll(() => sum(s), { message: s.name, timeout: 30_000 }).toBe(40);
    await expect(s.page.getByTestId("connection"), s.name).toHaveAttribute("data-state", "live");
    expect(await views(s), s.name).toEqual(await snapshotViews(s.site));
  }
});
