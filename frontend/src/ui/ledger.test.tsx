import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import type { Outcomes } from "../api";
import { LedgerTable, outcomeRows } from "./ledger";

const none: Outcomes = { received: 0, counted: 0, late: 0, stale: 0, duplicate: 0, dropped: {} };
const some: Outcomes = {
  received: 12_345,
  counted: 12_000,
  late: 2,
  stale: 0,
  duplicate: 40,
  dropped: { bot: 300, brand_new: 3 },
};

test("every beacon is in one row, and rows of 0 are left out", () => {
  const rows = outcomeRows(some);
  expect(rows.map((l) => [l.id, l.value])).toEqual([
    ["counted", 12_000],
    ["dropped bot", 300],
    ["duplicate", 40],
    ["dropped brand_new", 3],
    ["late", 2],
  ]);
  expect(rows.reduce((n, l) => n + l.value, 0)).toBe(some.received);
});

test("the table has words and exact numbers", () => {
  const html = renderToStaticMarkup(<LedgerTable total={some} />);
  for (const words of ["12,345", "Dropped: sent by a bot", "Dropped: brand new", "97%", "2.4%", "&lt; 0.1%"])
    expect(html).toContain(words);
});

test("a period without beacons says so", () => {
  expect(renderToStaticMarkup(<LedgerTable total={none} />)).toContain("No beacon was received");
  expect(outcomeRows(none).map((l) => l.id)).toEqual(["counted"]);
});
