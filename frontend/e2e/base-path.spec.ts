import { expect, type Page, test } from "@playwright/test";
import { BROWSER_USER_AGENT, Nowcast, website } from "./nowcast";
import { connection, visitors } from "./page";
import { freePort } from "./process";
import { nextjs, nginxBelow, type ReverseProxy } from "./proxy";

const BASE = "/stats";

/** Everything that a person does, below a path of another site. */
async function check(page: Page, nowcast: Nowcast, origin: string, own: string) {
  const url = origin + BASE;
  const home = new RegExp(`^${url}/?$`); // Next.js removes a slash at the end
  const failed: string[] = [];
  page.on("response", (r) => r.status() === 404 && failed.push(r.url()));
  page.on("request", (r) => {
    if (r.url().startsWith(origin) && !r.url().startsWith(url)) failed.push(r.url());
  });
  await page.goto(`${url}/login`);
  await page.getByLabel("Key or login code").fill(nowcast.key);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(home);
  const [cookie] = await page.context().cookies(`${url}/`);
  expect(cookie).toMatchObject({ name: "nowcast_session", path: `${BASE}/`, httpOnly: true });
  expect((await nowcast.api("POST", "/api/v1/sites", { domain: own, public: false })).status).toBe(201);
  await page.reload();
  await page.getByRole("link", { name: own }).click();
  await page.waitForURL(`${url}/${own}`);
  await expect(page.getByText(`src="${url}/js/script.js"`)).toBeVisible();

  // The documented snippet on a page of another origin sends its beacon below the path.
  const shop = await website({
    "/": `<!doctype html><script>window.__plausible = true</script>
      <script defer data-domain="${own}" src="${url}/js/script.js"></script>`,
  });
  const visitor = await page.context().browser()?.newContext({ userAgent: BROWSER_USER_AGENT });
  const shopPage = await visitor?.newPage();
  const beacon = shopPage?.waitForResponse(`${url}/api/event`);
  await shopPage?.goto(shop.origin);
  expect((await beacon)?.status()).toBe(202);
  await expect(visitors(page)).toHaveText("1");
  await expect(connection(page)).toHaveAttribute("data-state", "live");
  shop.close();

  await page.getByRole("link", { name: "History" }).click();
  await expect(page.getByTestId("total-pageviews")).toBeVisible();
  await page.reload();
  await expect(page.getByTestId("total-pageviews")).toBeVisible();
  await page.goto(`${url}/${own}`);
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await page.getByRole("textbox", { name: "Whom is it for?" }).fill("The press office");
  await page.keyboard.press("Enter");
  const link = await page.getByRole("textbox", { name: "The link" }).inputValue();
  expect(link).toContain(`${url}/share/ncl_`);
  const viewer = await (await page.context().browser()?.newContext())?.newPage();
  await viewer?.goto(link);
  expect(viewer?.url()).toBe(`${url}/${own}`);
  if (viewer) await expect(visitors(viewer)).toHaveText("1");
  await page.goto(`${url}/${own}?embed=1`);
  await expect(visitors(page)).toHaveText("1");
  const contract = await (await fetch(`${url}/api/openapi.yaml`)).text();
  expect(contract).toContain(`- url: ${BASE}\n`);
  await page.goto(`${url}/`);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL(home);
  await expect(page.getByRole("link", { name: "Log in" })).toBeVisible();
  expect(failed.filter((u) => !u.endsWith("/favicon.ico"))).toEqual([]);
}

let nowcast: Nowcast;
let port = 0;
const origin = () => `http://127.0.0.1:${port}`;
test.beforeAll(async () => {
  port = await freePort();
  nowcast = await Nowcast.start("--public-url", origin() + BASE);
});
test.afterAll(async () => {
  await nowcast.end();
});

const proxies: [string, string, () => Promise<ReverseProxy>][] = [
  ["nginx that strips the path", "strips.example.com", () => nginxBelow(port, BASE, nowcast.url, true)],
  ["nginx that passes the path on", "passes.example.com", () => nginxBelow(port, BASE, nowcast.url, false)],
  ["rewrites of Next.js", "next.example.com", () => nextjs(nowcast.url, port, BASE)],
];
for (const [name, site, start] of proxies)
  test(`--public-url with a path works whole, behind ${name}`, async ({ page }) => {
    test.setTimeout(180_000); // a busy machine takes up to a minute to build the Next.js app
    const proxy = await start();
    try {
      await check(page, nowcast, origin(), site);
    } finally {
      await proxy.stop();
    }
  });
