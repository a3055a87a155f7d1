import { resolve } from "node:path";
import { type BrowserContext, type Page as BrowserPage, expect, test } from "@playwright/test";
import { build } from "esbuild";
import type { Live } from "../src/live/stream";
import { Nowcast } from "./nowcast";
import { type Front, nextjs, nginx, vite } from "./proxy";

let nowcast: Nowcast;
let client: string; // the live client alone, as another app has it
const fronts: Front[] = [];

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
  await Promise.all(fronts.map((f) => f.end()));
  await nowcast.end();
});

interface Page {
  client: typeof import("../src/live/follow");
  live: Live;
}

/** The views of each second, as Nowcast itself tells whoever comes anew. */
async function truth(site: string): Promise<Record<string, number>> {
  const stop = new AbortController();
  const r = await fetch(`${nowcast.url}/api/events?site=${site}`, { signal: stop.signal });
  const text = new TextDecoder();
  let seen = "";
  for await (const piece of r.body as unknown as AsyncIterable<Uint8Array>) {
    seen += text.decode(piece, { stream: true });
    if (/event: snapshot\n.*\n.*\n\n/.test(seen)) break;
  }
  stop.abort();
  const { seconds } = JSON.parse(/data: (.*)/.exec(seen)?.[1] ?? "") as {
    seconds: { at: string; pageviews: number }[];
  };
  return Object.fromEntries(seconds.map((s) => [String(Date.parse(s.at) / 1000), s.pageviews]));
}

interface Seen {
  name: string;
  site: string;
  page: BrowserPage;
}

/** Opens the live page through a proxy, and beside it the client alone. */
async function open(
  context: BrowserContext,
  name: string,
  start: (nowcast: string) => Promise<Front>,
): Promise<Seen> {
  const front = await start(nowcast.url);
  fronts.push(front);
  const site = `${name}.example.com`;
  await nowcast.addSite(site);
  const page = await context.newPage();
  const stream = page.waitForResponse((r) => r.url().includes("/api/events"));
  await page.goto(`${front.url}/${site}`);
  await expect(page.getByTestId("connection"), name).toHaveAttribute("data-state", "live");
  const headers = (await stream).headers();
  expect(headers["content-type"], name).toBe("text/event-stream");
  expect(headers["content-encoding"], name).toBeUndefined();
  await page.evaluate(client);
  await page.evaluate((s) => {
    const w = window as unknown as Page;
    w.client.follow({ sites: [s] }, (live) => {
      w.live = live;
    });
  }, site);
  return { name, site, page };
}

/** The views of each second, -1 while it isn't final. */
const views = ({ page }: Seen) =>
  page.evaluate(() => {
    const { model } = (window as unknown as Page).live;
    return Object.fromEntries([...model.seconds].map(([at, s]) => [String(at), s.final ? s.pageviews : -1]));
  });

const sum = async (s: Seen) => Object.values(await views(s)).reduce((n, x) => n + x, 0);

async function send({ site }: Seen, from: number, to: number) {
  for (let i = from; i < to; i++) await nowcast.view(site, "/", i);
}

test("through nginx, Vite and Next.js the page is live, and goes on after a kill with no second missing or doubled", async ({
  context,
}) => {
  test.setTimeout(180_000); // a busy machine may take a minute to build an app of Next.js
  const opened = await Promise.allSettled([
    open(context, "nginx", nginx),
    open(context, "vite", vite),
    open(context, "next", nextjs),
  ]);
  // All have begun or failed by now, so that whatever was started is known and ended.
  const all = opened.map((o) => {
    if (o.status === "rejected") throw o.reason;
    return o.value;
  });
  for (const s of all) {
    await send(s, 0, 20);
    await expect(s.page.getByTestId("visitors"), s.name).toHaveText("20");
    await expect.poll(() => sum(s), s.name).toBe(20);
  }
  await nowcast.down("SIGKILL");
  for (const s of all)
    await expect(s.page.getByTestId("connection"), s.name).toHaveAttribute("data-state", "reconnecting");
  await nowcast.up();
  for (const s of all) await send(s, 20, 40);
  for (const s of all) {
    await expect(s.page.getByTestId("visitors"), s.name).toHaveText("40", { timeout: 20_000 });
    await expect.poll(() => sum(s), { message: s.name, timeout: 30_000 }).toBe(40);
    await expect(s.page.getByTestId("connection"), s.name).toHaveAttribute("data-state", "live");
    expect(await views(s), s.name).toEqual(await truth(s.site));
  }
});
