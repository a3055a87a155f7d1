// @vitest-environment jsdom
import { screen } from "@testing-library/react";
import { beforeEach, expect, test, vi } from "vitest";
import type { ShareLink } from "../api";
import { change, click, open, pass, SITE, setUpEachTest } from "../testing/dashboard";
import { type FakeApi, failure } from "../testing/fake-api";

const LINKS = `/api/v1/sites/${SITE}/links`;

let api: FakeApi;
let links: ShareLink[];
setUpEachTest((a) => {
  links = [];
  api = a
    .on("GET /api/v1/session", () => ({ authenticated: true, admin: true }))
    .on(`GET ${LINKS}`, () => ({ links }))
    .on(`POST ${LINKS}`, ({ body }) => {
      const link = { id: "a1", name: body.name, created: "2026-11-23T12:00:00Z" };
      links = [link];
      return { ...link, secret: "ncl_1", path: "/share/ncl_1" };
    })
    .on(`DELETE ${LINKS}/a1`, () => {
      links = [];
      return new Response(null, { status: 204 });
    });
});
beforeEach(async () => {
  await open(`/${SITE}`);
  await click("button", "Share");
});

async function createLink() {
  await change("Whom is it for?", "The press office");
  await click("button", "Make a link");
}

test("a created link is shown once, can be copied, and is in the list", async () => {
  const copy = vi.fn(() => Promise.resolve());
  vi.stubGlobal("navigator", Object.assign(Object.create(navigator), { clipboard: { writeText: copy } }));
  expect(screen.getByText("There is no link yet.")).toBeTruthy();
  await createLink();
  expect(api.received(`POST ${LINKS}`).map((r) => r.body)).toEqual([{ name: "The press office" }]);
  expect(screen.getByLabelText("The link")).toHaveProperty("value", `${location.origin}/share/ncl_1`);
  expect(screen.getByLabelText("Whom is it for?")).toHaveProperty("value", "");
  expect(screen.getByRole("button", { name: "Revoke the link for The press office" })).toBeTruthy();
  await click("button", "Copy link");
  expect(copy).toHaveBeenCalledWith(`${location.origin}/share/ncl_1`);
  expect(screen.getByRole("button", { name: "Copied" })).toBeTruthy();
  await pass(2_000);
  expect(screen.getByRole("button", { name: "Copy link" })).toBeTruthy();
});

test("a revoked link is gone from the list and isn't shown any more", async () => {
  await createLink();
  await click("button", "Revoke the link for The press office");
  expect(api.received(`DELETE ${LINKS}/a1`)).toHaveLength(1);
  expect(screen.queryByLabelText("The link")).toBeNull();
  expect(screen.getByText("There is no link yet.")).toBeTruthy();
});

test("an error is shown, and the next success removes it", async () => {
  api.on(`DELETE ${LINKS}/a1`, () => failure(503, "the log can't be written"));
  await createLink();
  await click("button", "Revoke the link for The press office");
  expect(screen.getByRole("alert").textContent).toBe("the log can't be written");
  expect(screen.getByLabelText("The link")).toBeTruthy();
  await createLink();
  expect(screen.queryByRole("alert")).toBeNull();
});
