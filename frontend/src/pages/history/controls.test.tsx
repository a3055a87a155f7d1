// @vitest-environment jsdom
import { screen, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { address, change, click, open, press, SITE, setUpEachTest, site } from "../../testing/dashboard";
import type { FakeApi } from "../../testing/fake-api";
import { HISTORY, queries, respondWithData } from "./fixtures";

let api: FakeApi;
setUpEachTest((a) => {
  api = a;
});

const card = (name: string) => within(screen.getByRole("region", { name }));

describe("filters", () => {
  test("a row filters by its value, and its chip removes the filter", async () => {
    respondWithData(api);
    await open(HISTORY);
    await click("link", /^\/p1/);
    expect(address()).toBe(`${HISTORY}?f=event%3Apage%7E%2Fp1`);
    for (const kind of ["totals", "series", "visit:country"])
      expect(queries(api, kind).at(-1)?.body.filters).toEqual([["is", "event:page", ["/p1"]]]);
    expect(card("Pages").queryByRole("link", { name: /^\/p1/ })).toBeNull(); // filtered by already
    await click("button", "Remove the filter Page is /p1");
    expect(address()).toBe(HISTORY);
    expect(screen.queryByRole("list", { name: "Filters" })).toBeNull();
  });

  test("several values of a dimension are alternatives, and dimensions are combined", async () => {
    respondWithData(api);
    await open(`${HISTORY}?f=visit:country~DE&f=visit:source~Direct+%2F+None&f=visit:country~FR`);
    expect(queries(api, "totals")[0]?.body.filters).toEqual([
      ["is", "visit:country", ["DE", "FR"]],
      ["is", "visit:source", ["Direct / None"]],
    ]);
    const chips = within(screen.getByRole("list", { name: "Filters" })).getAllByRole("listitem");
    expect(chips.map((c) => c.textContent)).toEqual([
      "Country is DEGermany×",
      "Source is Direct×",
      "Country is FRFrance×",
    ]);
    await press("x");
    expect(address()).toBe(HISTORY);
  });

  test("a star in a value is no wildcard", async () => {
    respondWithData(api);
    await open(`${HISTORY}?f=event:page~%2Fa%5C*&f=event:page~%2Fb`);
    expect(queries(api, "totals")[0]?.body.filters).toEqual([
      ["matches_wildcard", "event:page", ["/a\\\\\\*", "/b"]],
    ]);
  });
});

describe("period", () => {
  test("a preset, the previous and the next period change the address and the queries", async () => {
    await open(HISTORY);
    expect(screen.getByRole("button", { name: "Next period" })).toHaveProperty("disabled", true);
    await change("Period", "7d");
    expect(address()).toBe(`${HISTORY}?period=7d`);
    expect(
      queries(api, "series")
        .slice(-2)
        .map((r) => [r.body.date_range, r.body.dimensions]),
    ).toEqual([
      [["2026-11-17", "2026-11-23"], ["time:day"]],
      [["2026-11-10", "2026-11-16"], ["time:day"]],
    ]);
    await click("button", "Previous period");
    expect(address()).toBe(`${HISTORY}?period=7d&offset=-1`);
    expect(screen.getByLabelText("Period")).toHaveProperty("value", "7d");
    expect(screen.getByRole("option", { selected: true }).textContent).toBe("10 Nov – 16 Nov 2026");
    await click("button", "Next period");
    expect(address()).toBe(`${HISTORY}?period=7d`);
  });

  test("a custom period takes its days in either order", async () => {
    await open(`${HISTORY}?period=7d`);
    await change("Period", "custom");
    expect(address()).toBe(`${HISTORY}?period=7d`);
    expect(screen.getByLabelText("From")).toHaveProperty("value", "2026-11-17");
    await change("From", "2026-11-05");
    await change("To", "2026-11-01");
    await click("button", "Show");
    expect(address()).toBe(`${HISTORY}?period=custom&from=2026-11-01&to=2026-11-05`);
    expect(screen.queryByRole("dialog")).toBeNull();
  });

  test("the dialog of a custom period closes without a change", async () => {
    await open(HISTORY);
    await change("Period", "custom");
    await click("button", "Close");
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(address()).toBe(HISTORY);
  });

  test("days are those of the site's time zone", async () => {
    api.on("GET /api/v1/sites", () => ({ sites: [site(SITE, { timezone: "Pacific/Auckland" })] }));
    await open(HISTORY);
    expect(queries(api, "totals")[0]?.body.date_range).toEqual(["2026-11-24", "2026-11-24"]);
    expect(screen.getByText(/Times are in Pacific\/Auckland/)).toBeTruthy();
  });

  test("an unlisted site has UTC", async () => {
    await open("/unlisted.example/history");
    expect(queries(api, "totals")[0]?.body).toMatchObject({
      site_id: "unlisted.example",
      date_range: ["2026-11-23", "2026-11-23"],
    });
  });
});

describe("keyboard", () => {
  test.each([
    ["l", HISTORY, `/${SITE}`],
    ["7", HISTORY, `${HISTORY}?period=7d`],
    ["m", `${HISTORY}?offset=-3&metric=visits`, `${HISTORY}?period=month&metric=visits`],
    ["t", `/${SITE}`, HISTORY],
    ["ArrowLeft", `${HISTORY}?offset=-1`, `${HISTORY}?offset=-2`],
    ["ArrowRight", `${HISTORY}?offset=-1`, HISTORY],
    ["ArrowRight", HISTORY, HISTORY],
    ["ArrowLeft", `/${SITE}`, `/${SITE}`],
    ["7", "/", "/"],
    ["q", HISTORY, HISTORY],
  ])("%s on %s shows %s", async (key, from, to) => {
    await open(from);
    await press(key);
    expect(address()).toBe(to);
  });

  test("a key with a modifier or in a field does nothing", async () => {
    await open(HISTORY);
    for (const modifier of ["ctrlKey", "metaKey", "altKey"])
      await press("7", document.body, { [modifier]: true });
    await press("7", screen.getByLabelText("Period"));
    expect(address()).toBe(HISTORY);
  });

  test("? shows the keys, and a dialog has no shortcuts", async () => {
    await open(HISTORY);
    await press("?");
    const help = screen.getByRole("dialog", { name: "Keyboard shortcuts" });
    expect(within(help).getByText("Previous and next period")).toBeTruthy();
    await press("l", help);
    expect(address()).toBe(HISTORY);
    await click("button", "Close");
    expect(screen.queryByRole("dialog")).toBeNull();
  });
});
