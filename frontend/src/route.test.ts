import { expect, test } from "vitest";
import { historyFilters, href, parseRoute } from "./route";

function parseAddress(address: string) {
  const [path = "", search = ""] = address.split(/(?=\?)/);
  return parseRoute(path, search);
}

test.each([
  ["/", "sites", ""],
  ["/example.com", "live", "example.com"],
  ["/example.com/history", "history", "example.com"],
  ["/localhost:3000", "live", "localhost:3000"],
  ["/%", "live", "%"],
  ["/%E0%A4%A/history", "history", "%E0%A4%A"],
  ["/example.com/%", "live", "example.com"],
])("%s is the page %s", (path, page, site) => expect(parseRoute(path, "")).toMatchObject({ page, site }));

test("a route survives its address", () => {
  const route = {
    ...parseRoute("/example.com/history", ""),
    period: { preset: "custom" as const, offset: -2, from: "2026-01-01", to: "2026-01-31" },
    metric: "pageviews" as const,
    filters: [
      { dimension: "event:page", value: "/a~b?c&d=é" },
      { dimension: "visit:source", value: "Hacker News" },
    ],
  };
  expect(parseAddress(href(route))).toEqual(route);
});

test.each([
  ["", {}, []],
  ["?page=%2Fa%26b%3Fc", { page: "/a&b?c" }, [{ dimension: "event:page", value: "/a&b?c" }]],
  ["?source=Hacker+News", { source: "Hacker News" }, [{ dimension: "visit:source", value: "Hacker News" }]],
  ["?country=DE", { country: "DE" }, [{ dimension: "visit:country", value: "DE" }]],
  ["?device=Mobile&page=", { device: "Mobile" }, [{ dimension: "visit:device", value: "Mobile" }]],
])("the live page with %s", (search, liveFilter, filters) => {
  const r = parseRoute("/x.example", search);
  expect(r.liveFilter).toEqual(liveFilter);
  expect(historyFilters(r)).toEqual(filters);
  const [path = "", search2 = ""] = href({ page: "live", site: r.site, liveFilter: r.liveFilter }).split(
    /(?=\?)/,
  );
  expect(parseRoute(path, search2)).toEqual(r);
});

test("the history page has its own filters", () => {
  const r = parseRoute("/x.example/history", "?f=event:page~/a&page=/b");
  expect(historyFilters(r)).toEqual([{ dimension: "event:page", value: "/a" }]);
});

test("invalid values in the address become defaults", () => {
  const r = parseRoute("/x.example/history", "?period=nonsense&offset=7&metric=__proto__&f=&f=~&from=a&to=b");
  expect(r).toMatchObject({ period: { preset: "today", offset: 0 }, metric: "visitors", filters: [] });
  expect(parseRoute("/x.example/history", "?period=custom&from=2026-02-01&to=2026-01-01").period.preset).toBe(
    "today",
  );
});
