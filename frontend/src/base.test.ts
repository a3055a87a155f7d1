// @vitest-environment jsdom
import { afterEach, expect, test } from "vitest";
import { basePath, serverPath, serverUrl, withoutBase } from "./base";
import { href, parseRoute } from "./route";

function setBase(path: string) {
  document.head.innerHTML = `<base href="${path}">`;
}
afterEach(() => {
  document.head.innerHTML = "";
});

test.each([
  ["/", "/"],
  ["/stats/", "/stats/"],
  ["/a/b/", "/a/b/"],
])("below %s", (base, path) => {
  setBase(base);
  expect(basePath()).toBe(path);
  expect(serverPath("/api/v1/session")).toBe(`${path}api/v1/session`);
  expect(serverUrl("/js/script.js")).toBe(`${location.origin}${path}js/script.js`);
  expect(withoutBase(`${path}example.com/history`)).toBe("/example.com/history");
  expect(withoutBase(path)).toBe("/");
  const route = parseRoute(`${path}example.com/history`, "?period=7d");
  expect(route).toMatchObject({ page: "history", site: "example.com" });
  expect(href(route)).toBe(`${path}example.com/history?period=7d`);
  expect(href({ page: "sites" })).toBe(path);
});

test("an address without the base path is read as one with it", () => {
  setBase("/stats/");
  expect(withoutBase("/example.com")).toBe("/example.com");
  expect(withoutBase("/stats")).toBe("/");
  expect(withoutBase("/statsx/y")).toBe("/statsx/y");
});
