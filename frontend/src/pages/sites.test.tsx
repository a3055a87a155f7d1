// @vitest-environment jsdom
import { screen, within } from "@testing-library/react";
import { beforeEach, describe, expect, test } from "vitest";
import { snapshot, T } from "../live/fixtures";
import { address, change, click, open, pass, setUpEachTest, site } from "../testing/dashboard";
import { type FakeApi, failure, never } from "../testing/fake-api";

let api: FakeApi;
setUpEachTest((a) => {
  api = a;
});

const admin = () => api.on("GET /api/v1/session", () => ({ authenticated: true, admin: true }));
const sites = (...domains: string[]) =>
  api.on("GET /api/v1/sites", () => ({ sites: domains.map((d) => site(d)) }));
const rows = () => within(screen.getByRole("list")).getAllByRole("link");

test("while the sites load there is neither a row nor an empty state", async () => {
  api.on("GET /api/v1/sites", never).on("GET /api/v1/session", never);
  await open("/");
  expect(screen.getByRole("list").children).toHaveLength(0);
  expect(screen.queryByRole("button", { name: "Add a site" })).toBeNull();
});

test("an admin without a site is asked to add one", async () => {
  admin();
  sites();
  await open("/");
  expect(screen.getByText("There is no site yet. Add the first one.")).toBeTruthy();
  expect(screen.queryByRole("link", { name: "Log in" })).toBeNull();
  expect(screen.getByRole("button", { name: "Log out" }).closest("form")).toHaveProperty("method", "post");
});

test("a viewer without a session is told how to log in, and can't add a site", async () => {
  sites();
  await open("/");
  expect(screen.getByText("There is no listed site. Log in to see yours.")).toBeTruthy();
  expect(screen.getByRole("link", { name: "Log in" }).getAttribute("href")).toBe("/login");
  expect(screen.queryByRole("button", { name: "Log out" })).toBeNull();
  expect(screen.queryByRole("button", { name: "Add a site" })).toBeNull();
});

test("a server that can't be reached is tried again", async () => {
  api.on("GET /api/v1/sites", () => Promise.reject(new TypeError("network")));
  await open("/");
  sites("a.example");
  await pass(5_000);
  expect(rows().map((r) => r.textContent)).toEqual([expect.stringContaining("a.example")]);
});

describe("live numbers", () => {
  test("all sites share a stream without lists, and each row has its number", async () => {
    sites("a.example", "b.example");
    await open("/");
    expect(api.stream.requests).toHaveLength(1);
    expect([...api.stream.last.query]).toEqual([
      ["site", "a.example"],
      ["site", "b.example"],
      ["rate", "1s"],
      ["top", "0"],
    ]);
    for (const [domain, visitors] of [
      ["a.example", 12_840],
      ["b.example", 0],
    ] as const)
      api.stream.last.snapshot({ ...snapshot(T, []), site: domain, visitors });
    await pass();
    expect(rows().map((r) => r.textContent)).toEqual([
      "a.examplepublic12.8k here now",
      "b.examplepublic0 here now",
    ]);
    expect(screen.getByTitle("12,840")).toBeTruthy();
  });

  test("old numbers are pale", async () => {
    sites("a.example");
    await open("/");
    api.stream.last.snapshot({ ...snapshot(T, []), site: "a.example", visitors: 3 });
    await pass();
    expect(screen.getByText("3 here now").className).not.toContain("opacity-50");
    api.stream.status = "away";
    api.stream.last.fail();
    await pass();
    expect(screen.getByText("3 here now").className).toContain("opacity-50");
  });

  test("the sites are loaded again when the server refuses the stream", async () => {
    sites("a.example", "b.example");
    await open("/");
    api.stream.status = 404;
    sites("a.example");
    api.stream.last.fail();
    await pass();
    await pass(500);
    expect(rows()).toHaveLength(1);
  });

  test("more than 200 sites use four streams of 50, and the others have no number", async () => {
    sites(...Array.from({ length: 230 }, (_, i) => `s${i}.example`));
    await open("/");
    expect(api.stream.requests.map((r) => r.query.getAll("site").length)).toEqual([50, 50, 50, 50]);
    expect(rows()).toHaveLength(230);
  });
});

describe("adding a site", () => {
  beforeEach(async () => {
    admin();
    await open("/");
    await click("button", "Add a site");
  });

  test("sends the form, and shows the new site", async () => {
    api.on("POST /api/v1/sites", ({ body }) => site(body.domain));
    await change("Domain", "new.example");
    await click("checkbox", /^Public/);
    await click("button", "Add and show the snippet");
    expect(api.received("POST /api/v1/sites").map((r) => r.body)).toEqual([
      { domain: "new.example", public: true, timezone: expect.any(String) },
    ]);
    expect(address()).toBe("/new.example");
    expect(api.received("GET /api/v1/sites")).toHaveLength(2);
  });

  test("keeps the form and shows the server's message after an error", async () => {
    api.on("POST /api/v1/sites", () => failure(409, "the site exists already"));
    await change("Domain", "x.example");
    await click("button", "Add and show the snippet");
    expect(screen.getByRole("alert").textContent).toBe("the site exists already");
    expect(screen.getByLabelText("Domain")).toHaveProperty("value", "x.example");
    expect(address()).toBe("/");
  });

  test("cancel closes the form", async () => {
    await click("button", "Cancel");
    expect(screen.queryByLabelText("Domain")).toBeNull();
    expect(screen.getByRole("button", { name: "Add a site" })).toBeTruthy();
  });
});
