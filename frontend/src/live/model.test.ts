import { describe, expect, test } from "vitest";
import { frame, iso, mergedFrame, sec, snapshot, T } from "./fixtures";
import { applyFrame, applySnapshot, emptyModel, type Frame, type Model } from "./model";

const views = (m: Model) => [...m.seconds.values()].reduce((n, s) => n + s.pageviews, 0);

test("a snapshot and frames count every second once, provisional until final", () => {
  let m = applySnapshot(emptyModel, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), true);
  m = applyFrame(m, frame(T + 1, 2, false));
  expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 2, final: false });
  m = applyFrame(m, frame(T + 1, 3));
  expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 3, final: true });
  expect(views(m)).toBe(8);
  expect(m).toMatchObject({
    finalThrough: T + 1,
    completeFrom: T - 300,
    visitors: 3,
    timestamp: (T + 2) * 1000,
  });
});

test("a final second never changes; a provisional one never counts down", () => {
  let m = applyFrame(emptyModel, frame(T, 5));
  m = applyFrame(m, frame(T, 9, false));
  m = applyFrame(m, frame(T, 7));
  expect(m.seconds.get(T)?.pageviews).toBe(5);
  m = applyFrame(m, frame(T + 1, 5, false));
  m = applyFrame(m, frame(T + 1, 4, false));
  expect(m.seconds.get(T + 1)?.pageviews).toBe(5);
  m = applyFrame(m, frame(T + 1, 0));
  m = applyFrame(m, frame(T + 1, 5, false));
  expect(m.seconds.get(T + 1)?.pageviews).toBe(0);
  m = applyFrame(m, frame(T + 2, 0));
  m = applyFrame(m, frame(T + 2, 5, false));
  expect(m.seconds.has(T + 2)).toBe(false);
});

describe("idempotent by second", () => {
  const start = applySnapshot(emptyModel, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), true);
  const frames: [string, Frame[]][] = [
    ["a final second", [frame(T + 1, 2)]],
    ["a provisional one, then its final", [frame(T + 1, 2, false), frame(T + 1, 3)]],
    ["a second without an event", [frame(T + 1, 0)]],
    ["merged seconds", [mergedFrame(T + 1, T + 5, 13)]],
    ["frames left out", [{ ...frame(T + 1, 2), skipped: 3 }]],
    [
      "several frames",
      [frame(T + 1, 1), frame(T + 2, 2, false), frame(T + 2, 3), mergedFrame(T + 3, T + 7, 8)],
    ],
  ];
  test.each(frames)("%s", (_name, list) => {
    const once = list.reduce(applyFrame, start);
    expect(list.reduce(applyFrame, once)).toEqual(once);
    for (const f of list) expect(applyFrame(once, f)).toEqual(once);
    expect(applySnapshot(once, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), false).visitors).toBe(once.visitors);
  });
});

test("frames of an instance that is behind don't turn the numbers back", () => {
  const m = applyFrame(applyFrame(emptyModel, frame(T, 5)), frame(T + 3, 9));
  const old = applyFrame(m, frame(T + 1, 2));
  expect(old).toMatchObject({
    visitors: 9,
    timestamp: m.timestamp,
    finalThrough: T + 3,
    newestSecond: { at: iso(T + 3) },
  });
  expect(old.seconds.get(T + 1)?.pageviews).toBe(2);
});

describe("merged seconds", () => {
  test("keep their sum, distributed evenly", () => {
    const m = applyFrame(emptyModel, mergedFrame(T, T + 4, 13));
    expect([...m.seconds.values()].map((s) => s.pageviews)).toEqual([2, 3, 2, 3, 3]);
    expect(m.finalThrough).toBe(T + 4);
  });
  test("exact values stay, provisional ones are part of the sum", () => {
    let m = applyFrame(applyFrame(emptyModel, frame(T, 10)), frame(T + 1, 7, false));
    m = applyFrame(m, mergedFrame(T, T + 4, 14));
    expect(views(m)).toBe(14);
    expect(m.seconds.get(T)?.pageviews).toBe(10);
  });
  test("a snapshot replaces them by exact values, also where a second has no event", () => {
    let m = applySnapshot(emptyModel, snapshot(T, [sec(T, 1)]), true);
    m = applyFrame(m, mergedFrame(T + 1, T + 5, 13));
    m = applySnapshot(m, snapshot(T + 6, [sec(T + 2, 13), sec(T + 6, 2)]), false);
    expect([...m.seconds].map(([at, s]) => [at - T, s.pageviews])).toEqual([
      [0, 1],
      [2, 13],
      [6, 2],
    ]);
  });
  test("an hour in one frame fills the chart and no more", () => {
    const m = applyFrame(emptyModel, mergedFrame(T - 3599, T, 3600));
    expect(views(m)).toBe(m.seconds.size);
    expect(m.seconds.size).toBeLessThanOrEqual(311);
  });
});

test("frames that the server left out are counted once", () => {
  const m = applyFrame(applyFrame(emptyModel, { ...frame(T, 1), skipped: 2 }), {
    ...frame(T + 1, 1),
    skipped: 3,
  });
  expect(m.skipped).toBe(5);
  expect(applySnapshot(m, snapshot(T + 9, []), true).skipped).toBe(5);
});

test("a cut of the log stays until a snapshot that replaces all has none", () => {
  const cut = { after: iso(T - 9), at: iso(T - 2) };
  const m = applySnapshot(emptyModel, { ...snapshot(T, []), cut }, true);
  expect(m.cut).toEqual({ after: (T - 9) * 1000, at: (T - 2) * 1000 });
  expect(applySnapshot(applyFrame(m, frame(T + 1, 1)), snapshot(T + 2, []), false).cut).toEqual(m.cut);
  expect(applySnapshot(m, snapshot(T + 2, []), true).cut).toBeNull();
});

test("a snapshot after a reconnection adds seconds; after a reset it replaces all, even by older", () => {
  const m = applyFrame(emptyModel, frame(T, 5));
  expect(applySnapshot(m, snapshot(T + 2, [sec(T + 1, 1)]), false).seconds.size).toBe(2);
  expect(applySnapshot(m, snapshot(T - 900, [sec(T - 901, 1)]), true)).toMatchObject({
    visitors: 0,
    finalThrough: T - 900,
    timestamp: (T - 899) * 1000,
    seconds: new Map([[T - 901, sec(T - 901, 1)]]),
  });
});

test("seconds older than the chart are deleted", () => {
  const m = applyFrame(applyFrame(emptyModel, frame(T, 1)), frame(T + 1000, 1));
  expect([...m.seconds.keys()]).toEqual([T + 1000]);
  expect([...applyFrame(m, frame(T, 1)).seconds.keys()]).toEqual([T + 1000]);
});

test("a filtered frame has neither a second nor lists, and may be an upper bound", () => {
  const filtered = { visitors: 4, timestamp: iso(T), site: "x", skipped: 0, filter: { page: "/x" } };
  let m = applySnapshot(emptyModel, { ...filtered, upper_bound: true }, true);
  expect(m).toMatchObject({
    visitors: 4,
    upperBound: true,
    now: null,
    newestSecond: null,
    seconds: new Map(),
  });
  m = applyFrame(m, { ...filtered, visitors: 3, timestamp: iso(T + 1) });
  expect(m).toMatchObject({ visitors: 3, upperBound: false });
});
