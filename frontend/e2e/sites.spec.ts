import { expect, test } from "@playwright/test";
import { Nowcast } from "./nowcast";

let nowcast: Nowcast;
test.beforeAll(async () => {
  nowcast = await Nowcast.start();
  for (const site of ["a.example", "b.example"]) await nowcast.addSite(site);
});
test.afterAll(async () => {
  await nowcast.end();
});

test("the list of sites shows the visitors of each, live and on one connection", async ({ page }) => {
  const requests: string[] = [];
  page.on("request", (r) => requests.push(new URL(r.url()).pathname));
  const row = (site: string) => page.getByRole("link", { name: site });
  await nowcast.view("a.example", "/", 1);
  await page.goto(`${nowcast.url}/`);
  await expect(row("a.example")).toContainText("1 here now");
  await expect(row("b.example")).toContainText("0 here now");
  await nowcast.view("b.example", "/", 2);
  await nowcast.view("b.example", "/", 3);
  await expect(row("b.example")).toContainText("2 here now");
  await expect(row("a.example")).toContainText("1 here now");
  expect(requests.filter((path) => path === "/api/events")).toHaveLength(1);
  expect(requests.filter((path) => path.includes("realtime"))).toHaveLength(0);

  await nowcast.down("SIGKILL");
  await nowcast.up();
  await nowcast.view("a.example", "/", 4);
  await expect(row("a.example")).toContainText("2 here now", { timeout: 20_000 });

  // The removal of a site ends the shared stream; the page reconnects for the others.
  expect((await nowcast.api("DELETE", "/api/v1/sites/b.example")).status).toBe(204);
  await expect(row("b.example")).toHaveCount(0, { timeout: 20_000 });
  await nowcast.view("a.example", "/", 5);
  await expect(row("a.example")).toContainText("3 here now", { timeout: 20_000 });
});
