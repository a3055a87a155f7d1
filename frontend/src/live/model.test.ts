import { describe, expect, test } from "vitest";
import { frame, iso, sec, snapshot, span, T } from "./fixtures";
import { empty, type Frame, type Model, takeFrame, takeSnapshot } from "./model";

const views = (m: Model) => [...m.seconds.values()].reduce((n, s) => n + s.pageviews, 0);

test("snapshot, then frames: every second once, provisional until final", () => {
  let m = takeSnapshot(empty, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), true);
  m = takeFrame(m, frame(T + 1, 2, false));
  expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 2, final: false });
  m = takeFrame(m, frame(T + 1, 3));
  expect(m.seconds.get(T + 1)).toMatchObject({ pageviews: 3, final: true });
  expect(views(m)).toBe(8);
  expect(m).toMatchObject({ final: T + 1, known: T - 300, visitors: 3, timestamp: (T + 2) * 1000 });
});

test("a final second never changes and a provisional one never counts down", () => {
  let m = takeFrame(empty, frame(T, 5));
  m = takeFrame(m, frame(T, 9, false));
  m = takeFrame(m, frame(T, 7));
  expect(m.seconds.get(T)?.pageviews).toBe(5);
  m = takeFrame(m, frame(T + 1, 5, false));
  m = takeFrame(m, frame(T + 1, 4, false));
  expect(m.seconds.get(T + 1)?.pageviews).toBe(5);
  m = takeFrame(m, frame(T + 1, 0));
  m = takeFrame(m, frame(T + 1, 5, false));
  expect(m.seconds.get(T + 1)?.pageviews).toBe(0);
  m = takeFrame(m, frame(T + 2, 0));
  m = takeFrame(m, frame(T + 2, 5, false));
  expect(m.seconds.has(T + 2)).toBe(false);
});

describe("idempotent by second", () => {
  const start = takeSnapshot(empty, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), true);
  const frames: [string, Frame[]][] = [
    ["a final second", [frame(T + 1, 2)]],
    ["a provisional one, then its final", [frame(T + 1, 2, false), frame(T + 1, 3)]],
    ["a second without an event", [frame(T + 1, 0)]],
    ["merged seconds", [span(T + 1, T + 5, 13)]],
    ["frames left out", [{ ...frame(T + 1, 2), skipped: 3 }]],
    ["many in any order", [frame(T + 1, 1), frame(T + 2, 2, false), frame(T + 2, 3), span(T + 3, T + 7, 8)]],
  ];
  test.each(frames)("%s", (_name, list) => {
    const once = list.reduce(takeFrame, start);
    expect(list.reduce(takeFrame, once)).toEqual(once);
    for (const f of list) expect(takeFrame(once, f)).toEqual(once);
    expect(takeSnapshot(once, snapshot(T, [sec(T - 2, 4), sec(T, 1)]), false).visitors).toBe(once.visitors);
  });
});

test("frames of an instance that is a little behind don't turn the numbers back", () => {
  const m = takeFrame(takeFrame(empty, frame(T, 5)), frame(T + 3, 9));
  const old = takeFrame(m, frame(T + 1, 2));
  expect(old).toMatchObject({
    visitors: 9,
    timestamp: m.timestamp,
    final: T + 3,
    newest: { at: iso(T + 3) },
  });
  expect(old.seconds.get(T + 1)?.pageviews).toBe(2);
});

describe("merged seconds", () => {
  test("keep their sum, spread evenly", () => {
    const m = takeFrame(empty, span(T, T + 4, 13));
    expect([...m.seconds.values()].map((s) => s.pageviews)).toEqual([2, 3, 2, 3, 3]);
    expect(m.final).toBe(T + 4);
  });
  test("known ones keep theirs, provisional ones are part of the sum", () => {
    let m = takeFrame(takeFrame(empty, frame(T, 10)), frame(T + 1, 7, false));
    m = takeFrame(m, span(T, T + 4, 14));
    expect(views(m)).toBe(14);
    expect(m.seconds.get(T)?.pageviews).toBe(10);
  });
  test("the true ones of a snapshot take their place, also where nothing happened", () => {
    let m = takeSnapshot(empty, snapshot(T, [sec(T, 1)]), true);
    m = takeFrame(m, span(T + 1, T + 5, 13));
    m = takeSnapshot(m, snapshot(T + 6, [sec(T + 2, 13), sec(T + 6, 2)]), false);
    expect([...m.seconds].map(([at, s]) => [at - T, s.pageviews])).toEqual([
      [0, 1],
      [2, 13],
      [6, 2],
    ]);
  });
  test("an hour in one fills the chart and no more", () => {
    const m = takeFrame(empty, span(T - 3599, T, 3600));
    expect(views(m)).toBe(m.seconds.size);
    expect(m.seconds.size).toBeLessThanOrEqual(311);
  });
});

test("what the server left out is counted once", () => {
  const m = takeFrame(takeFrame(empty, { ...frame(T, 1), skipped: 2 }), { ...frame(T + 1, 1), skipped: 3 });
  expect(m.skipped).toBe(5);
  expect(takeSnapshot(m, snapshot(T + 9, []), true).skipped).toBe(5);
});

test("a snapshot after a break adds to what is known; after a reset it replaces it, also by older numbers", () => {
  const m = takeFrame(empty, frame(T, 5));
  expect(takeSnapshot(m, snapshot(T + 2, [sec(T + 1, 1)]), false).seconds.size).toBe(2);
  expect(takeSnapshot(m, snapshot(T - 900, [sec(T - 901, 1)]), true)).toMatchObject({
    visitors: 0,
    final: T - 900,
    timestamp: (T - 899) * 1000,
    seconds: new Map([[T - 901, sec(T - 901, 1)]]),
  });
});

test("old seconds go", () => {
  const m = takeFrame(takeFrame(empty, frame(T, 1)), frame(T + 1000, 1));
  expect([...m.seconds.keys()]).toEqual([T + 1000]);
  expect([...takeFrame(m, frame(T, 1)).seconds.keys()]).toEqual([T + 1000]);
});

test("filtered frames have neither a second nor lists, and may be an upper bound", () => {
  const filtered = { visitors: 4, timestamp: iso(T), site: "x", skipped: 0, filter: { page: "/x" } };
  let m = takeSnapshot(empty, { ...filtered, upper_bound: true }, true);
  expect(m).toMatchObject({ visitors: 4, upperBound: true, now: null, newest: null, seconds: new Map() });
  m = takeFrame(m, { ...filtered, visitors: 3, timestamp: iso(T + 1) });
  expect(m).toMatchObject({ visitors: 3, upperBound: false });
});
