// @vitest-environment jsdom
import { cleanup, screen, within } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { address, captureDownloads, click, open, pass, SITE, setUpEachTest } from "../../testing/dashboard";
import { type ApiRequest, type FakeApi, failure, never } from "../../testing/fake-api";
import { plots } from "../../testing/fake-uplot";
import { HISTORY, isToday, kindOf, QUERY, queries, respondWithData, response } from "./fixtures";

let api: FakeApi;
setUpEachTest((a) => {
  api = a;
});

const total = (metric: string) => screen.getByTestId(`total-${metric}`);
const totalButton = (name: string) => screen.getByRole("button", { name: new RegExp(`^${name}`) });
const card = (name: string) => within(screen.getByRole("region", { name }));
const chartTable = () =>
  [...screen.getByRole("table").querySelectorAll("tr")].map((tr) => [
    tr.querySelector("th")?.textContent,
    tr.querySelector("td")?.textContent,
  ]);
const lastPlot = () => plots.at(-1) as (typeof plots)[number];

describe("totals", () => {
  test("while they load there are placeholders and no numbers", async () => {
    api.on(QUERY, never);
    await open(HISTORY);
    expect(total("visitors").textContent).toBe("");
    expect(document.querySelectorAll(".skeleton").length).toBeGreaterThan(6);
    expect(screen.queryByText("Nothing in this period.")).toBeNull();
    expect(screen.queryByRole("table")).toBeNull();
  });

  test("before the site is loaded there is no query, since the time zone is unknown", async () => {
    api.on("GET /api/v1/sites", never);
    await open(HISTORY);
    expect(api.received(QUERY)).toEqual([]);
  });

  test("each has its unit, its exact number and its change", async () => {
    respondWithData(api);
    await open(HISTORY);
    expect(total("visitors").textContent).toBe("12.8k");
    expect(total("visitors").title).toBe("12,840");
    expect(total("visit_duration").textContent).toBe("–");
    expect(total("bounce_rate").textContent).toBe("40%");
    const changes = [
      ["People", "↑ 28%", "text-good"],
      ["Visits", "= 0%", ""],
      ["Views a visit", "↑ 50%", "text-good"],
      ["Bounce rate", "↓ 50%", "text-good"],
    ];
    for (const [name, text, color] of changes) {
      const change = within(totalButton(name as string)).getByText(text as string);
      expect(change.className).toBe(color);
    }
    expect(totalButton("Page views").textContent).toBe("Page views30"); // 0 before: no change
    expect(screen.getByTitle("10k in the previous period")).toBeTruthy();
  });

  test("an empty site has zeros and an empty state in each card", async () => {
    api.on(QUERY, (r) => (kindOf(r) === "totals" ? response([[], 0, 0, 0, 0, 0, 0]) : response()));
    await open(HISTORY);
    expect(total("visitors").textContent).toBe("0");
    expect(screen.getAllByText("Nothing in this period.")).toHaveLength(5);
    expect(screen.getAllByRole("button", { name: "CSV" })).toHaveLength(1);
    expect(screen.queryByRole("button", { name: "More…" })).toBeNull();
  });

  test("a click selects the chart's metric", async () => {
    respondWithData(api);
    await open(HISTORY);
    await click("button", /^Bounce rate/);
    expect(address()).toBe(`${HISTORY}?metric=bounce_rate`);
    expect(totalButton("Bounce rate").getAttribute("aria-pressed")).toBe("true");
    expect(totalButton("People").getAttribute("aria-pressed")).toBe("false");
    expect(queries(api, "series").at(-1)?.body.metrics).toEqual(["bounce_rate"]);
  });
});

test("a cut of the log within the period is said as the server says it, and not one of the period before", async () => {
  const warning =
    "The server lost its power: some views between 2026-11-23 13:03:08 and 13:05:12 may be missing.";
  const answerWith = (isCut: (r: ApiRequest) => boolean) =>
    api.on(QUERY, (r) => ({
      ...response(),
      meta: isCut(r) ? { warnings: [{ code: "log_cut", warning }] } : {},
    }));
  answerWith(isToday);
  await open(HISTORY);
  expect(screen.getAllByText(warning)).toHaveLength(1);
  cleanup();
  answerWith((r) => !isToday(r));
  await open(HISTORY);
  expect(screen.queryByText(warning)).toBeNull();
});

describe("chart", () => {
  test("missing buckets are 0, future ones have no value", async () => {
    respondWithData(api);
    await open(HISTORY);
    const rows = chartTable();
    expect(rows).toHaveLength(24);
    expect(rows.slice(12, 16)).toEqual([
      ["2026-11-23 12:00:00", "0"],
      ["2026-11-23 13:00:00", "3"],
      ["2026-11-23 14:00:00", "2"],
      ["2026-11-23 15:00:00", "–"],
    ]);
    expect(screen.getByText(/The newest point is incomplete/)).toBeTruthy();
  });

  test("a rate has no value in a missing bucket", async () => {
    respondWithData(api);
    await open(`${HISTORY}?metric=bounce_rate`);
    expect(chartTable()[12]).toEqual(["2026-11-23 12:00:00", "–"]);
    expect(chartTable()[13]).toEqual(["2026-11-23 13:00:00", "3%"]);
  });

  test("the partial bucket is a series of its own, connected to the last complete one", async () => {
    respondWithData(api);
    await open(HISTORY);
    const [, , partial, complete] = lastPlot().data as [unknown, unknown, number[], number[]];
    expect(partial.flatMap((v, i) => (v === null ? [] : [[i, v]]))).toEqual([
      [13, 3],
      [14, 2],
    ]);
    expect(complete.slice(12, 16)).toEqual([0, 3, null, null]);
  });

  test("its tip has the value, the previous period's and the time", async () => {
    respondWithData(api);
    await open(HISTORY);
    lastPlot().pointAt(14);
    await pass();
    expect(screen.getByText("2026-11-23 14:00 · incomplete")).toBeTruthy();
    expect(screen.getByText("0 in the previous period")).toBeTruthy();
    lastPlot().pointAt(null);
    await pass();
    expect(screen.queryByText(/in the previous period/)).toBeNull();
  });

  test("CSV has the values by bucket", async () => {
    respondWithData(api);
    const files = captureDownloads();
    await open(HISTORY);
    const region = screen.getByRole("region", { name: "Totals and chart" });
    within(region).getByRole("button", { name: "CSV" }).click();
    const [file] = files;
    expect(file?.name).toBe(`${SITE} 2026-11-23 to 2026-11-23.csv`);
    const rows = (await file?.blob.text())?.split("\r\n");
    expect(rows?.[0]).toBe("time,People");
    expect(rows?.slice(14, 17)).toEqual([
      "2026-11-23 13:00:00,3",
      "2026-11-23 14:00:00,2",
      "2026-11-23 15:00:00,",
    ]);
  });
});

describe("refresh", () => {
  test("a period with the present is loaded every 30 s while the tab is visible", async () => {
    respondWithData(api);
    await open(HISTORY);
    expect(queries(api, "totals").filter(isToday)).toHaveLength(1);
    await pass(30_000);
    expect(queries(api, "totals").filter(isToday)).toHaveLength(2);
    expect(queries(api, "totals")).toHaveLength(3); // the previous period is loaded once
    const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
    await pass(120_000);
    expect(queries(api, "totals").filter(isToday)).toHaveLength(2);
    hidden.mockReturnValue(false);
    await pass(30_000);
    expect(queries(api, "totals").filter(isToday)).toHaveLength(3);
  });

  test("a page that stays open over midnight shows the new day", async () => {
    respondWithData(api);
    await open(HISTORY);
    vi.setSystemTime(Date.parse("2026-11-24T00:00:10Z"));
    await pass(30_000);
    const days = queries(api, "totals").map((r) => r.body.date_range[0]);
    expect(days.slice(-2).sort()).toEqual(["2026-11-23", "2026-11-24"]); // today and yesterday
  });

  test("a past period is loaded once", async () => {
    respondWithData(api);
    await open(`${HISTORY}?offset=-1`);
    const requests = api.received(QUERY).length;
    await pass(120_000);
    expect(api.received(QUERY)).toHaveLength(requests);
    expect(screen.queryByText(/incomplete/)).toBeNull();
  });
});

describe("errors", () => {
  test.each([
    [401, "log in to read this site"],
    [403, "this key may not read this site"],
    [404, "no such site"],
  ])("status %i: shows the server's message, and doesn't retry", async (status, message) => {
    api.on(QUERY, () => failure(status, message));
    await open(HISTORY);
    expect(screen.getByRole("alert").textContent).toBe(message);
    expect(total("visitors").querySelector(".skeleton")).toBeTruthy();
    expect(card("Pages").getByText(message)).toBeTruthy();
    const requests = api.received(QUERY).length;
    await pass(60_000);
    expect(api.received(QUERY)).toHaveLength(requests);
  });

  test.each([
    [
      "a server's error without a message",
      () => failure(503),
      "The server answered 503; try again in a moment.",
    ],
    ["too many requests", () => failure(429, "too many queries"), "too many queries"],
    [
      "a lost connection",
      () => Promise.reject(new TypeError("network")),
      "The server can't be reached; this page tries again by itself.",
    ],
  ])("%s: retries every five seconds", async (_name, fail, message) => {
    api.on(QUERY, fail);
    await open(HISTORY);
    expect(screen.getByRole("alert").textContent).toBe(message);
    respondWithData(api);
    await pass(5_000);
    expect(screen.queryByRole("alert")).toBeNull();
    expect(total("visitors").textContent).toBe("12.8k");
  });

  test("older numbers stay, but pale", async () => {
    respondWithData(api);
    await open(HISTORY);
    api.on(QUERY, () => failure(500, "out of memory"));
    await pass(30_000);
    expect(screen.getByRole("alert").textContent).toBe("out of memory");
    expect(total("visitors").textContent).toBe("12.8k");
    expect(total("visitors").className).toContain("opacity-50");
    expect(card("Pages").getByText("/p0")).toBeTruthy();
  });
});

describe("ledger", () => {
  const LEDGER = `GET /api/v1/sites/${SITE}/ledger`;
  const outcomes = { received: 10, counted: 8, late: 0, stale: 0, duplicate: 2, dropped: {} };

  test("a viewer without a session doesn't request it", async () => {
    await open(HISTORY);
    expect(screen.queryByText("Beacon outcomes")).toBeNull();
    expect(api.received(LEDGER)).toEqual([]);
  });

  describe("with a session", () => {
    beforeEach(() => {
      api.on("GET /api/v1/session", () => ({ authenticated: true, admin: false }));
    });

    test("shows the outcomes of the period", async () => {
      api.on(LEDGER, () => ({ total: outcomes }));
      await open(HISTORY);
      expect(screen.getByTestId("ledger-received").textContent).toBe("10");
      expect(api.received(LEDGER)[0]?.url).toContain("by=total&from=2026-11-23&to=2026-11-23");
    });

    test.each([401, 403])("isn't there if the server refuses it (%i)", async (status) => {
      api.on(LEDGER, () => failure(status, "no"));
      await open(HISTORY);
      expect(screen.queryByText("Beacon outcomes")).toBeNull();
    });

    test("shows another error", async () => {
      api.on(LEDGER, () => failure(500, "ClickHouse is away"));
      await open(HISTORY);
      expect(screen.getByRole("alert").textContent).toBe("ClickHouse is away");
    });
  });
});

test("the footer names the source and the licence of the countries", async () => {
  await open(HISTORY);
  const footer = screen.getByRole("contentinfo");
  expect(footer.textContent).toBe("Countries: geo-whois-asn-country by NRO, CC BY 4.0");
  expect(within(footer).getByRole("link", { name: "CC BY 4.0" })).toHaveProperty(
    "href",
    "https://creativecommons.org/licenses/by/4.0/",
  );
});
