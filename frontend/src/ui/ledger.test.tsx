import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import type { Outcomes } from "../api";
import { LedgerTable, outcomes } from "./ledger";

const none: Outcomes = { received: 0, counted: 0, late: 0, stale: 0, repeated: 0, dropped: {} };
const some: Outcomes = {
  received: 12_345,
  counted: 12_000,
  late: 2,
  stale: 0,
  repeated: 40,
  dropped: { bot: 300, brand_new: 3 },
};

test("every beacon is in one line, and what is none is left out", () => {
  const lines = outcomes(some);
  expect(lines.map((l) => [l.id, l.value])).toEqual([
    ["counted", 12_000],
    ["dropped bot", 300],
    ["repeated", 40],
    ["dropped brand_new", 3],
    ["late", 2],
  ]);
  expect(lines.reduce((n, l) => n + l.value, 0)).toBe(some.received);
});

test("the table says it in words, with exact numbers", () => {
  const html = renderToStaticMarkup(<LedgerTable total={some} />);
  for (const words of ["12,345", "Dropped: sent by a bot", "Dropped: brand new", "97%", "2.4%", "&lt; 0.1%"])
    expect(html).toContain(words);
});

test("no beacons are said to be none", () => {
  expect(renderToStaticMarkup(<LedgerTable total={none} />)).toContain("No beacon was received");
  expect(outcomes(none).map((l) => l.id)).toEqual(["counted"]);
});
