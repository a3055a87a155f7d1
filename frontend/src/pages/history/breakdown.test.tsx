// @vitest-environment jsdom
import { screen, within } from "@testing-library/react";
import { beforeEach, describe, expect, test } from "vitest";
import {
  captureDownloads,
  change,
  click,
  open,
  pass,
  press,
  SITE,
  setUpEachTest,
} from "../../testing/dashboard";
import { type FakeApi, failure } from "../../testing/fake-api";
import { HISTORY, QUERY, queries, type Result, respondWithData, response } from "./fixtures";

let api: FakeApi;
setUpEachTest((a) => {
  api = a;
});

const card = (name: string) => within(screen.getByRole("region", { name }));

describe("breakdowns", () => {
  test("show nine values, the largest first", async () => {
    respondWithData(api);
    await open(HISTORY);
    expect(queries(api, "event:page")[0]?.body).toMatchObject({
      metrics: ["visitors"],
      order_by: [["visitors", "desc"]],
      pagination: { limit: 10, offset: 0 },
    });
    expect(card("Pages").getAllByRole("link")).toHaveLength(9);
    expect(card("Sources").getByText("Direct")).toBeTruthy();
    expect(queries(api, "event:name")[0]?.body.metrics).toEqual(["events"]);
  });

  test("a tab selects another dimension", async () => {
    respondWithData(api);
    await open(HISTORY);
    await click("tab", "Channels");
    expect(queries(api, "visit:channel")).toHaveLength(1);
    expect(screen.getByRole("tab", { name: "Channels" }).getAttribute("aria-selected")).toBe("true");
    expect(screen.getByRole("tab", { name: "Sources" }).getAttribute("aria-selected")).toBe("false");
  });

  test("CSV has all values with three metrics", async () => {
    respondWithData(api);
    const files = captureDownloads();
    await open(HISTORY);
    card("Sources").getByRole("button", { name: "CSV" }).click();
    await pass();
    expect(queries(api, "visit:source").at(-1)?.body).toMatchObject({
      metrics: ["visitors", "pageviews", "events"],
      pagination: { limit: 10_000, offset: 0 },
    });
    expect(files[0]?.name).toBe(`${SITE} Today Sources.csv`);
    expect(await files[0]?.blob.text()).toMatch(/^Source,people,page views,events\r\nDirect \/ None,7\r\n/);
  });

  describe("search", () => {
    beforeEach(async () => {
      respondWithData(api);
      await open(`${HISTORY}?f=visit:country~DE`);
      await press("/");
    });
    const dialog = () => within(screen.getByRole("dialog", { name: "Pages" }));

    test("the key / opens it, and Close closes it", async () => {
      expect(dialog().getAllByRole("link")).toHaveLength(10);
      await click("button", "Close");
      expect(screen.queryByRole("dialog")).toBeNull();
    });

    test("adds to the page's filters", async () => {
      api.on(QUERY, () => response());
      await change("Search Pages", "  blog ");
      expect(queries(api, "event:page").at(-1)?.body.filters).toEqual([
        ["is", "visit:country", ["DE"]],
        ["contains", "event:page", ["blog"], { case_sensitive: false }],
      ]);
      expect(dialog().getByText("No matches.")).toBeTruthy();
      await change("Search Pages", " ");
      expect(queries(api, "event:page").at(-1)?.body.filters).toEqual([["is", "visit:country", ["DE"]]]);
    });

    test("shows more values on demand", async () => {
      api.on(QUERY, ({ body }) =>
        response(...Array.from({ length: body.pagination.limit }, (_, i): Result => [[`/q${i}`], 1])),
      );
      await change("Search Pages", "q");
      await click("button", "Show more");
      expect(queries(api, "event:page").at(-1)?.body.pagination).toEqual({ limit: 150, offset: 0 });
      expect(dialog().getAllByRole("link")).toHaveLength(150);
    });

    test("shows the server's message after an error", async () => {
      api.on(QUERY, () => failure(400, "the filter is too long"));
      await change("Search Pages", "x");
      expect(dialog().getByRole("alert").textContent).toBe("the filter is too long");
    });
  });
});
