import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "@playwright/test";
import { Nowcast, website } from "./nowcast";
import { connection, expectAccessible, visitors } from "./page";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
});
test.afterAll(async () => {
  await nowcast.end();
});

async function addPrivate(domain: string, origins: string[] = []): Promise<void> {
  const r = await nowcast.api("POST", "/api/v1/sites", { domain, public: false, origins });
  expect(r.status).toBe(201);
}

test("an admin creates a share link and revokes it", async ({ page, browser, context }) => {
  const site = "shared.example.com";
  await addPrivate(site);
  await addPrivate("secret.example.com");
  await nowcast.view(site, "/first", 1);
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: nowcast.url });
  await nowcast.logIn(page);
  await page.goto(`${nowcast.url}/${site}`);
  await page.setViewportSize({ width: 320, height: 640 });
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await expect(page.getByText("There is no link yet.")).toBeVisible();
  await page.getByRole("textbox", { name: "Whom is it for?" }).fill("The press office");
  await page.keyboard.press("Enter");
  const link = await page.getByRole("textbox", { name: "The link" }).inputValue();
  expect(link).toMatch(new RegExp(`^${nowcast.url}/share/ncl_`));
  await page.getByRole("button", { name: "Copy link" }).click();
  await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toBe(link);
  await expectAccessible(page);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);

  const viewer = await (await browser.newContext()).newPage();
  await viewer.goto(link);
  expect(viewer.url()).toBe(`${nowcast.url}/${site}`);
  await expect(visitors(viewer)).toHaveText("1");
  await expect(connection(viewer)).toHaveAttribute("data-state", "live");
  await expect(viewer.getByRole("button", { name: "Share", exact: true })).toHaveCount(0);
  await viewer.getByRole("link", { name: "History" }).click();
  await expect(viewer.getByTestId("total-pageviews")).toBeVisible();
  await expect(viewer.getByText("Beacon outcomes")).toHaveCount(0);
  await viewer.goto(`${nowcast.url}/`);
  await expect(viewer.getByRole("link", { name: site })).toBeVisible();
  await expect(viewer.getByText("secret.example.com")).toHaveCount(0);
  await expect(viewer.getByRole("button", { name: /add/i })).toHaveCount(0);
  await viewer.goto(`${nowcast.url}/secret.example.com`);
  await expect(viewer.getByText("secret.example.com isn't public")).toBeVisible();

  await viewer.goto(`${nowcast.url}/${site}`);
  await expect(connection(viewer)).toHaveAttribute("data-state", "live");
  await page.getByRole("button", { name: "Revoke the link for The press office" }).click();
  await expect(page.getByText("There is no link yet.")).toBeVisible();
  await expect(page.getByRole("textbox", { name: "The link" })).toHaveCount(0);
  await expect(viewer.getByText(`${site} isn't public`)).toBeVisible({ timeout: 20_000 });
  await viewer.goto(link);
  await expect(viewer.getByText("This share link isn’t valid (any more)")).toBeVisible();
});

/** The page's code in docs/embedding.md, with the test's addresses. */
function documentedCode(): string {
  const text = readFileSync(resolve(import.meta.dirname, "../../docs/embedding.md"), "utf8");
  const code = /```js\n(\/\/ live\.js[\s\S]*?)```/.exec(text)?.[1];
  if (!code) throw new Error("docs/embedding.md has no code of live.js");
  return code
    .replaceAll("https://stats.example.com", nowcast.url)
    .replaceAll("example.com", "embed.example.com");
}

test("the documented code shows a private site on a page of a listed origin only", async ({ page }) => {
  // The site's own server requests tickets with its key, which the page never gets.
  const ticket = async () => {
    const r = await nowcast.api("POST", "/api/v1/tickets", { sites: ["embed.example.com"], ttl: 5 });
    return r.text();
  };
  const pages = {
    "/": `<!doctype html><title>Shop</title><p id="here">unknown</p><script>${documentedCode()}</script>`,
  };
  const shop = await website(pages);
  const other = await website(pages);
  await addPrivate("embed.example.com", [shop.origin]);
  for (const origin of [shop.origin, other.origin])
    await page.route(`${origin}/stats-ticket`, (r) =>
      ticket().then(
        (body) => r.fulfill({ contentType: "application/json", body }),
        () => r.fulfill({ status: 502 }),
      ),
    );
  await nowcast.view("embed.example.com", "/first", 1);
  await page.goto(`${shop.origin}/`);
  await expect(page.locator("#here")).toHaveText("1 here now");
  // The ticket expires and the server restarts: the page requests another ticket.
  await nowcast.down("SIGKILL");
  await page.waitForTimeout(5_500);
  await nowcast.up();
  await nowcast.view("embed.example.com", "/second", 2);
  await expect(page.locator("#here")).toHaveText("2 here now", { timeout: 30_000 });
  const refused = page.waitForEvent("requestfailed", (r) => r.url().includes("/api/events"));
  await page.goto(`${other.origin}/`);
  await refused;
  await expect(page.locator("#here")).toHaveText("unknown");
  shop.close();
  other.close();
});
