import { expect, test } from "@playwright/test";
import { Nowcast } from "./nowcast";
import { expectAccessible, visitors } from "./page";

const site = "filter.example.com";
let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
  await nowcast.addSite(site);
});
test.afterAll(async () => {
  await nowcast.end();
});

test("a click on a row of the live page filters by it, and a second one removes the filter", async ({
  page,
}) => {
  for (let i = 0; i < 3; i++) await nowcast.view(site, "/pricing", i);
  for (let i = 3; i < 5; i++) await nowcast.view(site, "/", i, "https://www.google.com/");
  await page.goto(`${nowcast.url}/${site}`);
  await expect(visitors(page)).toHaveText("5");

  const pages = page.getByTestId("now-pages");
  await pages.getByRole("link", { name: "/pricing" }).click();
  await expect(page).toHaveURL(`${nowcast.url}/${site}?page=%2Fpricing`);
  const filtered = page.getByTestId("filtered");
  await expect(filtered).toHaveText("3");
  await expect(page.getByText("of 5 in all")).toBeVisible();
  await nowcast.view(site, "/pricing", 5);
  await expect(filtered).toHaveText("4");
  await nowcast.view(site, "/", 6);
  await expect(page.getByText("of 7 in all")).toBeVisible();
  await expect(filtered).toHaveText("4");
  await expect(page.getByRole("link", { name: "History" })).toHaveAttribute(
    "href",
    /f=event%3Apage%7E%2Fpricing/,
  );
  await expectAccessible(page);

  await page.reload();
  await expect(filtered).toHaveText("4");
  await page.getByTestId("now-sources").getByRole("link", { name: "Google" }).click();
  await expect(page).toHaveURL(`${nowcast.url}/${site}?source=Google`);
  await expect(filtered).toHaveText("2");
  await page.getByTestId("now-sources").getByRole("link", { name: "Direct" }).click();
  await expect(page).toHaveURL(`${nowcast.url}/${site}?source=Direct+%2F+None`);
  await expect(filtered).toHaveText("5");
  await expect(page.getByRole("link", { name: "History" })).toHaveAttribute(
    "href",
    /f=visit%3Asource%7EDirect/,
  );
  await page.goBack();
  await page.goBack();
  await expect(filtered).toHaveText("4");
  await page.getByRole("link", { name: "Remove the filter Page is /pricing" }).click();
  await expect(page).toHaveURL(`${nowcast.url}/${site}`);
  await expect(visitors(page)).toHaveText("7");

  await page.getByTestId("now-devices").getByRole("link", { name: "Desktop" }).click();
  await expect(filtered).toHaveText("7");
  await page.keyboard.press("x");
  await expect(page).toHaveURL(`${nowcast.url}/${site}`);
});
