import { expect, test } from "@playwright/test";
import { Nowcast } from "./nowcast";
import { connection, expectAccessible } from "./page";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
  const r = await nowcast.api("POST", "/api/v1/sites", { domain: "own.example.com", public: false });
  expect(r.status).toBe(201);
});
test.afterAll(async () => {
  await nowcast.end();
});

test("a key logs in without JavaScript, and leads back to the page", async ({ browser }) => {
  const page = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
  await page.goto(`${nowcast.url}/login?next=/own.example.com`);
  await page.getByLabel("Key or login code").fill("nck_wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("alert")).toContainText("isn't valid (any more)");
  await page.getByLabel("Key or login code").fill(nowcast.key);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${nowcast.url}/own.example.com`);
  expect(page.url()).not.toContain("nck_");
});

test("a code logs in once, and opening its page doesn't use it up", async ({ page, browser }) => {
  const printed = await nowcast.command("login");
  const link = printed.split("\n")[0] ?? "";
  expect(printed).not.toContain(nowcast.key);
  expect((await fetch(link)).status).toBe(200); // as a scanner of links does
  await page.goto(link);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${nowcast.url}/`);
  await expect(page.getByRole("link", { name: "own.example.com" })).toBeVisible();

  const other = await (await browser.newContext()).newPage();
  await other.goto(link);
  await other.getByRole("button", { name: "Log in" }).click();
  await expect(other.getByRole("alert")).toBeVisible();
});

test("an ended session ends the open page, and a logout the browser's", async ({ page, browser }) => {
  await nowcast.logIn(page);
  await page.goto(`${nowcast.url}/own.example.com`);
  await expect(connection(page)).toHaveAttribute("data-state", "live");
  expect(await nowcast.command("session", "list")).toContain("first start");
  expect(await nowcast.command("session", "end", "--all")).toContain("is ended");
  await expect(page.getByText("own.example.com isn't public")).toBeVisible({ timeout: 20_000 });
  await page.getByRole("link", { name: "Log in" }).click();
  await expect(page.getByLabel("Key or login code")).toBeVisible();

  const other = await (await browser.newContext()).newPage();
  await nowcast.logIn(other);
  await other.getByRole("button", { name: "Log out" }).click();
  await expect(other.getByRole("link", { name: "Log in" })).toBeVisible();
  await expect(other.getByRole("link", { name: "own.example.com" })).toHaveCount(0);
});

for (const colorScheme of ["light", "dark"] as const)
  test(`the login page in ${colorScheme} colours`, async ({ browser }, info) => {
    const page = await (await browser.newContext({ colorScheme })).newPage();
    const shoot = async (name: string) => {
      await page.screenshot({ path: info.outputPath(`${name}-${colorScheme}.png`) });
      await expectAccessible(page);
    };
    const errors: string[] = [];
    page.on("console", (m) => m.type() === "error" && errors.push(m.text()));
    await page.goto(`${nowcast.url}/login`);
    await shoot("form");
    await page.goto(`${nowcast.url}/login?code=ncc_3vQk9`);
    await shoot("code");
    expect(errors).toEqual([]); // the policy of the page allows its style
    await page.goto(`${nowcast.url}/login?key=nck_x`);
    await shoot("key-in-address");
    await page.setViewportSize({ width: 320, height: 640 });
    await page.getByLabel("Key or login code").fill("nck_wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    await shoot("failed");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
  });
