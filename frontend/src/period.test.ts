import { expect, test } from "vitest";
import { type Period, previousPeriod, resolvePeriod } from "./period";

const now = Date.parse("2026-11-23T23:30:00Z");
const p = (preset: Period["preset"], offset = 0, more = {}): Period => ({ preset, offset, ...more });

test.each([
  ["today", 0, "UTC", "2026-11-23", "2026-11-23", "Today"],
  ["today", -1, "UTC", "2026-11-22", "2026-11-22", "Yesterday"],
  ["today", 0, "Europe/Berlin", "2026-11-24", "2026-11-24", "Today"],
  ["7d", 0, "UTC", "2026-11-17", "2026-11-23", "Last 7 days"],
  ["7d", -1, "UTC", "2026-11-10", "2026-11-16", "10 Nov – 16 Nov 2026"],
  ["month", 0, "UTC", "2026-11-01", "2026-11-30", "November 2026"],
  ["month", -9, "UTC", "2026-02-01", "2026-02-28", "February 2026"],
  ["year", -1, "UTC", "2025-01-01", "2025-12-31", "2025"],
] as const)("%s %d in %s", (preset, offset, zone, from, to, label) => {
  const s = resolvePeriod(p(preset, offset), now, zone);
  expect([s.bounds, s.label]).toEqual([[from, to], label]);
});

test("buckets, and the partial one", () => {
  const today = resolvePeriod(p("today"), now, "UTC");
  expect(today.buckets).toHaveLength(24);
  expect(today.partialBucket).toBe("2026-11-23 23:00:00");
  expect(resolvePeriod(previousPeriod(p("today")), now, "UTC").partialBucket).toBeNull();
  expect(resolvePeriod(p("30d"), now, "UTC").buckets).toHaveLength(30);
  expect(resolvePeriod(p("year"), now, "UTC").buckets).toHaveLength(12);
});

test("the last 24 hours end with the current hour", () => {
  const s = resolvePeriod(p("24h"), now, "Europe/Berlin");
  expect(s.buckets).toHaveLength(24);
  expect(s.buckets.at(-1)).toBe("2026-11-24 00:00:00");
  expect(s.bounds).toEqual(["2026-11-23T00:00:00.000Z", "2026-11-24T00:00:00.000Z"]);
});

test("a custom period moves by its own length", () => {
  const s = resolvePeriod(p("custom", -1, { from: "2026-11-10", to: "2026-11-12" }), now, "UTC");
  expect(s.bounds).toEqual(["2026-11-07", "2026-11-09"]);
});
