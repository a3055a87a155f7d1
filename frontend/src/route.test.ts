import { expect, test } from "vitest";
import { historyFilters, href, parse } from "./route";

test.each([
  ["/", "sites", ""],
  ["/example.com", "live", "example.com"],
  ["/example.com/history", "history", "example.com"],
  ["/localhost:3000", "live", "localhost:3000"],
])("%s is %s", (path, page, site) => expect(parse(path, "")).toMatchObject({ page, site }));

test("what a page shows survives its address", () => {
  const route = {
    ...parse("/example.com/history", ""),
    period: { preset: "custom" as const, offset: -2, from: "2026-01-01", to: "2026-01-31" },
    metric: "pageviews" as const,
    filters: [
      { dimension: "event:page", value: "/a~b?c&d=é" },
      { dimension: "visit:source", value: "Hacker News" },
    ],
  };
  const [path = "", search = ""] = href(route).split(/(?=\?)/);
  expect(parse(path, search)).toEqual(route);
});

test.each([
  ["", {}, []],
  ["?page=%2Fa%26b%3Fc", { page: "/a&b?c" }, [{ dimension: "event:page", value: "/a&b?c" }]],
  ["?source=Hacker+News", { source: "Hacker News" }, [{ dimension: "visit:source", value: "Hacker News" }]],
  ["?country=DE", { country: "DE" }, [{ dimension: "visit:country", value: "DE" }]],
  ["?device=Mobile&page=", { device: "Mobile" }, [{ dimension: "visit:device", value: "Mobile" }]],
])("the live page with %s", (search, live, filters) => {
  const r = parse("/x.example", search);
  expect(r.live).toEqual(live);
  expect(historyFilters(r)).toEqual(filters);
  const [path = "", again = ""] = href({ page: "live", site: r.site, live: r.live }).split(/(?=\?)/);
  expect(parse(path, again)).toEqual(r);
});

test("history has filters of its own", () => {
  const r = parse("/x.example/history", "?f=event:page~/a&page=/b");
  expect(historyFilters(r)).toEqual([{ dimension: "event:page", value: "/a" }]);
});

test("nonsense in the address is no harm", () => {
  const r = parse("/x.example/history", "?period=nonsense&offset=7&metric=__proto__&f=&f=~&from=a&to=b");
  expect(r).toMatchObject({ period: { preset: "today", offset: 0 }, metric: "visitors", filters: [] });
  expect(parse("/x.example/history", "?period=custom&from=2026-02-01&to=2026-01-01").period.preset).toBe(
    "today",
  );
});
