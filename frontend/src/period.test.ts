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
  expect(s.bounds).toEqual(["2026-11-23T00:00:00.000Z", "2026-11-23T23:59:59.000Z"]);
});

test("a custom period moves by its own length", () => {
  const s = resolvePeriod(p("custom", -1, { from: "2026-11-10", to: "2026-11-12" }), now, "UTC");
  expect(s.bounds).toEqual(["2026-11-07", "2026-11-09"]);
});

test.each(["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/St_Johns", "UTC"])(
  "the last 24 hours are whole hours of local time in %s",
  (zone) => {
    const at = Date.parse("2026-07-01T23:40:00Z");
    const time = new Intl.DateTimeFormat("sv-SE", {
      timeZone: zone,
      dateStyle: "short",
      timeStyle: "medium",
    });
    const s = resolvePeriod(p("24h"), at, zone);
    const [from, to] = s.bounds.map((bound) => time.format(Date.parse(bound)));
    expect(s.buckets).toHaveLength(24);
    expect(s.partialBucket?.slice(0, 13)).toBe(time.format(at).slice(0, 13));
    expect(from).toBe(s.buckets[0]);
    expect(to?.slice(11)).toMatch(/:59:59$/);
    // The period before ends a second before this one begins.
    const before = resolvePeriod(previousPeriod(p("24h")), at, zone);
    expect(Date.parse(before.bounds[1]) + 1_000).toBe(Date.parse(s.bounds[0]));
  },
);

test.each([
  ["Africa/Cairo", "2026-04-24", 23, "01:00"], // 00:00 is skipped
  ["Africa/Cairo", "2026-10-29", 24, "00:00"], // 23:00 occurs twice, and is one bucket
  ["Asia/Amman", "2021-03-26", 23, "01:00"],
  ["Asia/Amman", "2021-10-29", 24, "00:00"], // 00:00 occurs twice
  ["Asia/Gaza", "2019-03-29", 23, "01:00"],
  ["Europe/Berlin", "2026-03-29", 23, "00:00"],
  ["Australia/Lord_Howe", "2026-10-04", 24, "00:00"], // half an hour is skipped
] as const)("the hours of a day in %s on %s", (zone, date, n, first) => {
  const s = resolvePeriod(p("custom", 0, { from: date, to: date }), now, zone);
  expect(s.buckets).toHaveLength(n);
  expect(s.buckets[0]).toBe(`${date} ${first}:00`);
  expect(new Set(s.buckets).size).toBe(n);
});

/** The days from 2015 to 2030 on which clocks change in a zone. */
function changes(zone: string): string[] {
  const time = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" });
  const offset = (ms: number) => Date.parse(`${time.format(ms).replace(" ", "T")}Z`) - ms;
  const days: string[] = [];
  const step = 28 * 86_400_000;
  for (let t = Date.UTC(2015, 0, 1); t < Date.UTC(2031, 0, 1); t += step) {
    if (offset(t) === offset(t + step)) continue;
    let [low, high] = [t, t + step];
    while (high - low > 60_000) {
      const middle = low + Math.floor((high - low) / 120_000) * 60_000;
      if (offset(middle) === offset(low)) low = middle;
      else high = middle;
    }
    days.push(time.format(high).slice(0, 10));
  }
  return days;
}

test("on every day on which clocks change, today has the hours that its clocks show", () => {
  // Of each group of zones with the same rules one is enough.
  const zones = new Map(Intl.supportedValuesOf("timeZone").map((zone) => [changes(zone).join(), zone]));
  expect(zones.size).toBeGreaterThan(40);
  let n = 0;
  for (const zone of zones.values()) {
    const time = new Intl.DateTimeFormat("sv-SE", {
      timeZone: zone,
      dateStyle: "short",
      timeStyle: "medium",
    });
    for (const date of changes(zone).filter((_, i) => i % 8 < 2)) {
      const hours = new Set<string>();
      for (let t = Date.parse(`${date}T00:00Z`) - 54_000_000, i = 0; i < 54 * 6; i++, t += 600_000) {
        const local = time.format(t);
        if (local.startsWith(date)) hours.add(`${local.slice(0, 13)}:00:00`);
      }
      const s = resolvePeriod(p("custom", 0, { from: date, to: date }), now, zone);
      expect(s.buckets, `${zone} ${date}`).toEqual([...hours].sort());
      n++;
    }
  }
  expect(n).toBeGreaterThan(150);
});
