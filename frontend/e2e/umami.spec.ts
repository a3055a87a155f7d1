import { expect, test } from "@playwright/test";
import { Umami } from "@umami/node";
import { BROWSER_USER_AGENT, Nowcast, website } from "./nowcast";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
  await nowcast.addSite("umami.example");
});
test.afterAll(async () => {
  await nowcast.end();
});

const queriedEvents = async (): Promise<string> => {
  const r = await nowcast.api("POST", "/api/v2/query", {
    site_id: "umami.example",
    metrics: ["events"],
    date_range: "day",
    dimensions: ["event:name", "event:page"],
  });
  return JSON.stringify(((await r.json()) as { results?: unknown }).results);
};

test("events of the unmodified @umami/node are counted", async () => {
  const umami = new Umami({ websiteId: "umami.example", hostUrl: nowcast.url });
  for (const sent of [
    umami.track({ url: "/node", hostname: "umami.example", title: "Node" }),
    umami.track("signup", { plan: "pro", seats: 3 }),
    umami.identify({ email: "somebody@example.com" }),
  ]) {
    const r = await sent;
    expect(r.status).toBe(200);
    expect(await r.json()).toEqual({
      cache: expect.any(String),
      sessionId: expect.any(String),
      visitId: expect.any(String),
    });
  }
  await expect.poll(queriedEvents).toContain('"dimensions":["signup","/"]');
  expect(await queriedEvents()).toContain('"dimensions":["pageview","/node"]');
  expect(await queriedEvents()).not.toContain("identify");

  const lost = await new Umami({
    websiteId: "50429a93-8479-4073-be80-d5d29c09c2ec",
    hostUrl: nowcast.url,
  }).track("x");
  expect(lost.status).toBe(400);
  expect(((await lost.json()) as { error: { message: string } }).error.message).toContain(
    "Website not found",
  );
  const bot = await new Umami({
    websiteId: "umami.example",
    hostUrl: nowcast.url,
    userAgent: "Googlebot/2.1",
  }).track("x");
  expect(await bot.json()).toEqual({ beep: "boop" });
});

test("a page on another origin sends as Umami's tracker does, and shows the pixel", async ({ browser }) => {
  const pixel = `${nowcast.url}/pixel.gif?site=umami.example&amp;url=https://umami.example/pixel`;
  const site = await website({
    "/": `<!doctype html><title>Home</title><img id="pixel" src="${pixel}">`,
  });
  const context = await browser.newContext({ userAgent: BROWSER_USER_AGENT });
  const page = await context.newPage();
  await page.goto(`${site.origin}/`);
  // The tracker's headers make the browser send a CORS preflight.
  const answers = await page.evaluate(async (url) => {
    const answers: { cache?: string }[] = [];
    for (const path of ["/tracker", "/tracker/next"]) {
      const r = await fetch(`${url}/api/send`, {
        method: "POST",
        keepalive: true,
        credentials: "omit",
        headers: {
          "Content-Type": "application/json",
          "x-umami-website-id": "umami.example",
          "x-umami-hostname": "umami.example",
          "x-umami-cache": answers[0]?.cache ?? "",
        },
        body: JSON.stringify({
          type: "event",
          payload: { website: "umami.example", hostname: "umami.example", url: path },
        }),
      });
      answers.push((await r.json()) as { cache?: string });
    }
    return answers;
  }, nowcast.url);
  expect(answers.map((a) => typeof a.cache)).toEqual(["string", "string"]);
  expect(await page.locator("#pixel").evaluate((e: HTMLImageElement) => e.naturalWidth)).toBe(1);
  await expect.poll(queriedEvents).toContain("/tracker/next");
  await expect.poll(queriedEvents).toContain("/pixel");
  await context.close();
  site.close();
});
