// @vitest-environment jsdom
import { screen, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { formatTime } from "../../format";
import { frame, iso, type Request, sec, snapshot, T } from "../../live/fixtures";
import type { Now } from "../../live/model";
import { address, click, open, pass, press, SITE, setUpEachTest, site } from "../../testing/dashboard";
import { type FakeApi, failure, never } from "../../testing/fake-api";
import { plots } from "../../testing/fake-uplot";

let api: FakeApi;
setUpEachTest((a) => {
  api = a;
});

const lists: Now = {
  pages: [
    ["/pricing", 3],
    ["/", 2],
  ],
  sources: [
    ["", 4],
    ["Google", 1],
  ],
  countries: [
    ["DE", 4],
    ["", 1],
  ],
  devices: [["Mobile", 5]],
  rest: { pages: 7, sources: 0, countries: 0, devices: 0 },
};
/** The page's streams: the newest one without a filter, and the newest one with it. */
const isFiltered = (r: Request) => ["page", "source", "country", "device"].some((name) => r.query.has(name));
const mainStream = () => api.stream.requests.findLast((r) => !isFiltered(r));
const filteredStream = () => api.stream.requests.findLast(isFiltered);
const goLive = async (more: object = {}) => {
  mainStream()?.snapshot({ ...snapshot(T, [sec(T, 4)]), visitors: 5, now: lists, ...more });
  await pass();
};
const state = () => screen.getByTestId("connection").dataset.state;
const number = (id = "visitors") => screen.getByTestId(id).textContent;
const list = (id: string) => within(screen.getByTestId(`now-${id}`));
const order = (id: string) =>
  list(id)
    .getAllByRole("listitem")
    .map((li) => li.dataset.key);

test("before the first frame there is no number, and the lists are placeholders", async () => {
  await open(`/${SITE}`);
  expect(number()).toBe("–");
  expect(state()).toBe("connecting");
  expect(screen.queryByTestId("now-pages")).toBeNull();
  expect(document.title).toBe(`${SITE} · Nowcast`);
});

test("a snapshot shows visitors, the newest second, the chart and the lists", async () => {
  await open(`/${SITE}`);
  await goLive({ visitors: 12_840 });
  expect(state()).toBe("live");
  expect(number()).toBe("12.8k");
  expect(screen.getByTitle("12,840")).toBeTruthy();
  expect(screen.getByText("4 views this second · 4 people")).toBeTruthy();
  expect(order("pages")).toEqual(["/pricing", "/"]);
  expect(list("countries").getByText("Germany")).toBeTruthy();
  expect(list("countries").getByText("Unknown")).toBeTruthy();
  expect(screen.getByText("7 more in other values")).toBeTruthy();
  expect(screen.getByTitle("3 (25%)")).toBeTruthy(); // of 12: the list's rest is part of the whole
  const row = screen.getByRole("table").querySelector("tbody tr");
  expect(row?.textContent).toBe(`${new Date(T * 1000).toISOString().slice(11, 19)}44`);
});

test("the chart's tip describes final, provisional and unknown seconds", async () => {
  await open(`/${SITE}`);
  await goLive();
  api.stream.last.frame(frame(T + 1, 1, false));
  await pass(250);
  const [plot] = plots;
  const times = plot?.data[0] as number[];
  const tipAt = async (at: number) => {
    plot?.pointAt(times.indexOf(at));
    await pass();
    return screen.queryByText(/^\d\d:\d\d:\d\d · /)?.textContent?.slice(11);
  };
  expect(await tipAt(T)).toBe("4 views · 4 people · final");
  expect(await tipAt(T - 1)).toBe("0 views · 0 people · final");
  expect(await tipAt(T + 1)).toBe("1 views · 1 people · provisional");
  expect(await tipAt(T - 301)).toBe("not known yet");
  plot?.pointAt(null);
  await pass();
  expect(screen.queryByText(/ · final$/)).toBeNull();
});

test("numbers that lack the visitors of a part that stands still are marked", async () => {
  await open(`/${SITE}`);
  await goLive({ incomplete: true });
  expect(screen.getByText(/Some visitors are missing/)).toBeTruthy();
  mainStream()?.frame(frame(T + 1, 5));
  await pass();
  expect(screen.queryByText(/Some visitors are missing/)).toBeNull();
});

test("a cut of the log is said while its seconds are on the chart", async () => {
  await open(`/${SITE}`);
  await goLive({ cut: { after: iso(T - 32), at: iso(T - 10) } });
  const time = (at: number) => formatTime(at * 1000, site(SITE).timezone);
  const said = `The server lost its power: some views between ${time(T - 32)} and ${time(T - 10)} may be missing.`;
  expect(screen.getByText(said)).toBeTruthy();
  mainStream()?.frame(frame(T + 290, 5));
  await pass();
  expect(screen.getByText(said)).toBeTruthy();
  mainStream()?.frame(frame(T + 291, 5));
  await pass();
  expect(screen.queryByText(said)).toBeNull();
});

test("a screen reader hears the number at most every ten seconds", async () => {
  await open(`/${SITE}`);
  await pass(10_000);
  await goLive();
  const announced = () => document.querySelector("[aria-live]")?.textContent;
  expect(announced()).toBe("5 people here now");
  for (let i = 1; i < 12; i++) {
    api.stream.last.frame(frame(T + i, 50 + i));
    await pass(1_000);
    expect(announced()).toBe(i < 11 ? "5 people here now" : "61 people here now");
  }
});

test("the lists keep their order for two seconds", async () => {
  await open(`/${SITE}`);
  await goLive();
  const swap = async (at: number, pages: Now["pages"]) => {
    api.stream.last.frame({ ...frame(T + at, 5), now: { ...lists, pages } });
    await pass();
  };
  await swap(1, [["/", 9], ["/pricing", 3]]); // biome-ignore format: one row
  await pass(20);
  expect(order("pages")).toEqual(["/", "/pricing"]);
  await swap(2, [["/pricing", 10], ["/", 9]]); // biome-ignore format: one row
  await pass(1_800);
  expect(order("pages")).toEqual(["/", "/pricing"]);
  await pass(200);
  expect(order("pages")).toEqual(["/pricing", "/"]);
});

describe("connection", () => {
  const dimmed = () => screen.getByTestId("visitors").closest(".opacity-50") !== null;

  test("live numbers have an age, and old ones are pale and stale", async () => {
    await open(`/${SITE}`);
    await goLive();
    expect(screen.getByTestId("connection").textContent).toMatch(/^live · \d\.\d s$/);
    expect(dimmed()).toBe(false);
    await pass(4_500);
    expect(screen.getByTestId("connection").textContent).toBe(
      `stale since ${new Date((T + 1) * 1000).toISOString().slice(11, 19)}`,
    );
    expect(dimmed()).toBe(true);
  });

  test("a broken connection counts down, and Try now retries at once", async () => {
    await open(`/${SITE}`);
    await goLive();
    api.stream.status = "away";
    for (let i = 0; i < 4; i++) {
      api.stream.last.fail();
      await pass(i < 3 ? 2_000 : 0);
    }
    await pass(500);
    expect(screen.getByTestId("connection").textContent).toMatch(/^reconnecting in \d+ sTry now$/);
    expect(dimmed()).toBe(true);
    await pass(500);
    const requests = api.stream.requests.length;
    api.stream.status = 200;
    await click("button", "Try now");
    expect(api.stream.requests).toHaveLength(requests + 1);
    api.stream.last.snapshot(snapshot(T + 9, []));
    await pass();
    expect(state()).toBe("live");
  });

  test("a busy server is waited for", async () => {
    await open(`/${SITE}`);
    api.stream.last.text("retry: 7000\n\n");
    api.stream.last.end();
    await pass();
    await pass(500);
    expect(screen.getByTestId("connection").textContent).toBe("busy, trying again in 7 s");
  });

  test.each([
    [404, `There is no site ${SITE}`, "no such site"],
    [401, `${SITE} isn't public`, "no access"],
    [403, `${SITE} isn't public`, "no access"],
  ])("status %i: says what to do, and recovers", async (status, heading, words) => {
    api.stream.status = status;
    await open(`/${SITE}`);
    expect(screen.getByRole("heading", { level: 1 }).textContent).toBe(heading);
    expect(screen.getByTestId("connection").textContent).toContain(words);
    expect(screen.queryByTestId("visitors")).toBeNull();
    api.stream.status = 200;
    await pass(1_000);
    api.stream.last.snapshot(snapshot(T, [sec(T, 1)]));
    await pass();
    expect(number()).toBe("0");
  });

  test("status 400 keeps the page", async () => {
    api.stream.status = 400;
    await open(`/${SITE}`);
    expect(screen.getByTestId("connection").textContent).toContain("not accepted");
    expect(number()).toBe("–");
  });
});

describe("a quiet site", () => {
  const quiet = async () => {
    await open(`/${SITE}`);
    api.stream.last.snapshot(snapshot(T, []));
    await pass();
  };
  const result = (...buckets: string[]) => ({
    results: buckets.map((b) => ({ dimensions: [b], metrics: [1] })),
  });

  test("says when its last visitor was there", async () => {
    api.on("POST /api/v2/query", ({ body }) =>
      result(body.dimensions[0] === "time:day" ? "2026-11-20" : "2026-11-20 17:04:00"),
    );
    await quiet();
    expect(screen.getByText("Last visit: on 2026-11-20 at 17:04.")).toBeTruthy();
    expect(api.received("POST /api/v2/query")[1]?.body).toMatchObject({
      date_range: ["2026-11-20", "2026-11-20"],
      order_by: [["time:minute", "desc"]],
    });
  });

  test("says the day alone if the minute can't be had", async () => {
    api.on("POST /api/v2/query", ({ body }) =>
      body.dimensions[0] === "time:day" ? result("2026-11-20") : failure(400),
    );
    await quiet();
    expect(screen.getByText("Last visit: on 2026-11-20.")).toBeTruthy();
  });

  test("shows its number while the last visit loads", async () => {
    api.on("POST /api/v2/query", never);
    await quiet();
    expect(number()).toBe("0");
  });

  test("without any event shows the snippet, and turns live with the first one", async () => {
    await quiet();
    expect(screen.getByRole("heading", { level: 1 }).textContent).toBe("Waiting for the first page view…");
    expect(screen.getByText(/data-domain="x\.example"/)).toBeTruthy();
    expect(screen.queryByText(/served from localhost/)).toBeNull();
    api.stream.last.frame({ ...frame(T + 1, 1), visitors: 1 });
    await pass();
    expect(number()).toBe("1");
    expect(screen.getByText("1 view this second · 1 person")).toBeTruthy();
  });

  test.each([
    ["accepted", () => ({}), "Sent. It shows here in a moment."],
    ["refused", () => failure(400, "no such site"), "no such site"],
    ["lost", () => Promise.reject(new TypeError("network")), /can't be reached/],
  ])("sends a page view that is %s", async (_name, response, message) => {
    api.on("POST /api/event", response);
    await quiet();
    await click("button", "Send a page view from here");
    expect(api.received("POST /api/event")[0]?.body).toEqual({
      name: "pageview",
      domain: SITE,
      url: `https://${SITE}/`,
    });
    expect(screen.getByText(message)).toBeTruthy();
  });
});

describe("filters", () => {
  const filtered = (visitors: number, more: object = {}) => ({
    site: SITE,
    visitors,
    timestamp: iso(T),
    skipped: 0,
    filter: { page: "/pricing" },
    ...more,
  });

  test("a row filters by its value, over a stream of its own, and the chip removes the filter", async () => {
    await open(`/${SITE}`);
    await goLive();
    await click("link", /pricing/);
    expect(address()).toBe(`/${SITE}?page=%2Fpricing`);
    expect(api.stream.requests).toHaveLength(2);
    expect(filteredStream()?.query.get("page")).toBe("/pricing");
    expect(number("filtered")).toBe("–");
    filteredStream()?.snapshot(filtered(3));
    await pass();
    expect(number("filtered")).toBe("3");
    expect(screen.queryByText("at most")).toBeNull();
    expect(screen.getByText("of 5 in all; chart and lists show all")).toBeTruthy();
    expect(list("pages").getByRole("link", { current: true }).textContent).toContain("/pricing");
    await click("link", "Remove the filter Page is /pricing");
    expect(address()).toBe(`/${SITE}`);
    expect(number()).toBe("5");
    expect(filteredStream()?.closed).toBe(true);
  });

  test("a second click on the row removes the filter, and so does the key x", async () => {
    await open(`/${SITE}?device=Mobile`);
    await goLive();
    await click("link", /^Mobile/);
    expect(address()).toBe(`/${SITE}`);
    await click("link", /^Mobile/);
    expect(address()).toBe(`/${SITE}?device=Mobile`);
    await press("x");
    expect(address()).toBe(`/${SITE}`);
  });

  test("an upper bound is marked", async () => {
    await open(`/${SITE}?page=%2Fpricing`);
    filteredStream()?.snapshot(filtered(3, { upper_bound: true }));
    await pass();
    expect(screen.getByText("at most")).toBeTruthy();
  });

  test("direct visits have a filter; an unknown country has none", async () => {
    await open(`/${SITE}`);
    await goLive();
    expect(
      list("sources")
        .getByRole("link", { name: /Direct/ })
        .getAttribute("href"),
    ).toBe(`/${SITE}?source=Direct+%2F+None`);
    expect(list("countries").getAllByRole("link")).toHaveLength(1);
  });

  test("the filter leads to the same visitors in history", async () => {
    await open(`/${SITE}?country=DE`);
    expect(screen.getByRole("link", { name: "Remove the filter Country is DE" }).textContent).toContain(
      "Germany",
    );
    await press("h");
    expect(address()).toBe(`/${SITE}/history?f=visit%3Acountry%7EDE`);
  });
});

describe("an embed", () => {
  test("has number, chart and state, but no header, lists, footer or keys", async () => {
    await open(`/${SITE}?embed=1&theme=dark`);
    await goLive();
    expect(number()).toBe("5");
    expect(state()).toBe("live");
    expect(screen.queryByRole("banner")).toBeNull();
    expect(screen.queryByRole("contentinfo")).toBeNull();
    expect(screen.queryByTestId("now-pages")).toBeNull();
    expect(document.documentElement.dataset.theme).toBe("dark");
    await press("h");
    expect(address()).toBe(`/${SITE}?embed=1&theme=dark`);
  });

  test.each([
    ["of a filter", `/${SITE}?embed=1&page=/a`, undefined],
    ["of an admin", `/${SITE}?embed=1`, undefined],
    ["of a site that can't be read", `/${SITE}?embed=1`, 401],
    ["of a site that doesn't exist", `/${SITE}?embed=1`, 404],
    ["of the history", `/${SITE}/history?embed=1`, undefined],
    ["of the list of sites", "/?embed=1", undefined],
  ])("%s has no control", async (_, path, status) => {
    api.on("GET /api/v1/session", () => ({ authenticated: true, admin: true }));
    if (status) api.stream.status = status;
    await open(path);
    await pass(3_000);
    for (const role of ["button", "link", "textbox", "combobox"])
      expect(screen.queryAllByRole(role), role).toHaveLength(0);
  });
});

describe("header", () => {
  test.each([true, false])("only an admin (%s) can share a site", async (admin) => {
    api.on("GET /api/v1/session", () => ({ authenticated: true, admin }));
    await open(`/${SITE}`);
    expect(screen.queryAllByRole("button", { name: "Share" })).toHaveLength(admin ? 1 : 0);
  });

  test("an admin can't share a site that isn't listed", async () => {
    api.on("GET /api/v1/session", () => ({ authenticated: true, admin: true }));
    await open("/unlisted.example");
    expect(screen.queryByRole("button", { name: "Share" })).toBeNull();
  });

  test("the menu of sites opens, selects and closes", async () => {
    api.on("GET /api/v1/sites", () => ({ sites: [site(SITE), site("y.example")] }));
    await open(`/${SITE}`);
    await click("button", SITE);
    await press("Escape");
    expect(screen.queryByRole("link", { name: "y.example" })).toBeNull();
    await click("button", SITE);
    await click("link", "y.example");
    expect(address()).toBe("/y.example");
    expect(api.stream.last.query.get("site")).toBe("y.example");
    expect(api.stream.requests[0]?.closed).toBe(true);
  });

  test("the theme is toggled and stored", async () => {
    await open(`/${SITE}`);
    expect(document.documentElement.dataset.theme).toBe("light");
    await click("button", "Use dark colours");
    expect(document.documentElement.dataset.theme).toBe("dark");
    expect(localStorage.getItem("nowcast.theme")).toBe("dark");
  });
});

test("times are in the site's time zone", async () => {
  api.on("GET /api/v1/sites", () => ({ sites: [site(SITE, { timezone: "America/New_York" })] }));
  await open(`/${SITE}`);
  expect(screen.getByText(/Times are in America\/New York/)).toBeTruthy();
});
