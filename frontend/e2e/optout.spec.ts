import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "@playwright/test";
import { BROWSER_USER_AGENT, Nowcast, website } from "./nowcast";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
});
test.afterAll(async () => {
  await nowcast.end();
});

// The switch of docs/opt-out.md, as it is printed there.
test("who opts out by the documented switch isn't counted, until they opt in again", async ({ browser }) => {
  const docs = readFileSync(resolve(import.meta.dirname, "../../docs/opt-out.md"), "utf8");
  const optOut = /```html\n([\s\S]*?)```/.exec(docs)?.[1];
  expect(optOut).toBeDefined();
  const snippet = `<script defer data-domain="localhost" src="${nowcast.url}/js/script.js"></script>`;
  const site = await website({
    "/": `<!doctype html><title>Home</title>${snippet}`,
    "/privacy": `<!doctype html><title>Privacy</title>${snippet}${optOut}`,
  });
  const context = await browser.newContext({ userAgent: BROWSER_USER_AGENT });
  const page = await context.newPage();
  // The tracker ignores an automated browser, which this flag reveals.
  await page.addInitScript(() =>
    Object.defineProperty(Object.getPrototypeOf(navigator), "webdriver", { get: () => false }),
  );
  const beacons: string[] = [];
  page.on("request", (r) => r.url().includes("/api/event") && beacons.push(r.postData() ?? ""));
  const views = () => beacons.filter((b) => b.includes('"n":"pageview"')).length;

  await page.goto(`${site.origin}/privacy`);
  await expect.poll(views).toBe(1);
  const box = page.getByLabel("Don't count my visits to this site");
  await expect(box).not.toBeChecked();
  await box.check();
  await page.reload();
  await expect(box).toBeChecked();
  const before = beacons.length;
  await page.goto(`${site.origin}/`);
  await page.goto(`${site.origin}/privacy`);
  expect(beacons.length).toBe(before);

  await box.uncheck();
  await page.goto(`${site.origin}/`);
  await expect.poll(views).toBe(2);
  expect(await page.evaluate(() => localStorage.length)).toBe(0);
  await context.close();
  site.close();
});

test("the own id is shown to a person, and to no page of another origin", async ({ page }) => {
  await page.goto(`${nowcast.url}/api/visitor?site=localhost`);
  expect(JSON.parse((await page.textContent("body")) ?? "{}").visitor).toMatch(/^[0-9a-f]{16}$/);
  const site = await website({ "/": "<!doctype html><title>Evil</title>" });
  await page.goto(`${site.origin}/`);
  const read = await page.evaluate(
    (url) =>
      fetch(url).then(
        () => "read",
        () => "refused",
      ),
    `${nowcast.url}/api/visitor?site=localhost`,
  );
  expect(read).toBe("refused");
  site.close();
});
