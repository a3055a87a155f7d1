import { resolve } from "node:path";
import { expect, test } from "@playwright/test";
import { build } from "esbuild";
import type { Live } from "../src/live/stream";
import { Nowcast } from "./nowcast";
import { type Front, nextjs, nginx, vite } from "./proxy";

let nowcast: Nowcast;
let client: string; // the live client alone, as another app has it
let proxy: Front | undefined;

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
test.afterEach(async () => {
  await proxy?.end();
  proxy = undefined;
});
test.afterAll(async () => {
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

for (const [name, start] of [
  ["nginx", nginx],
  ["the dev server of Vite", vite],
  ["rewrites of Next.js", nextjs],
] as const) {
  test(`through ${name} the page is live, and goes on after a kill with no second missing or doubled`, async ({
    page,
  }) => {
    test.setTimeout(180_000); // a busy machine may take a minute to build an app of Next.js
    proxy = await start(nowcast.url);
    const site = `${proxy.url.split(":").at(-1)}.example.com`;
    await nowcast.addSite(site);
    const stream = page.waitForResponse((r) => r.url().includes("/api/events"));
    await page.goto(`${proxy.url}/${site}`);
    const connection = page.getByTestId("connection");
    const visitors = page.getByTestId("visitors");
    await expect(connection).toHaveAttribute("data-state", "live");
    const headers = (await stream).headers();
    expect(headers["content-type"]).toBe("text/event-stream");
    expect(headers["content-encoding"]).toBeUndefined();

    await page.evaluate(client);
    await page.evaluate((s) => {
      const w = window as unknown as Page;
      w.client.follow({ sites: [s] }, (live) => {
        w.live = live;
      });
    }, site);
    const seen = () =>
      page.evaluate(() => {
        const { model } = (window as unknown as Page).live;
        return Object.fromEntries([...model.seconds].map(([at, s]) => [String(at), s.final ? s.pageviews : -1]));
      });
    const sum = async () => Object.values(await seen()).reduce((n, views) => n + views, 0);

    for (let i = 0; i < 20; i++) await nowcast.view(site, "/", i);
    await expect(visitors).toHaveText("20");
    await expect.poll(sum).toBe(20);

    await nowcast.down("SIGKILL");
    await expect(connection).toHaveAttribute("data-state", "reconnecting");
    await nowcast.up();
    for (let i = 20; i < 40; i++) await nowcast.view(site, "/", i);
    await expect(visitors).toHaveText("40", { timeout: 20_000 });
    await expect(connection).toHaveAttribute("data-state", "live");
    await expect.poll(sum, { timeout: 20_000 }).toBe(40);
    expect(await seen()).toEqual(await truth(site));
  });
}
