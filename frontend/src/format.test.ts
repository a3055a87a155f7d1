import { describe, expect, test } from "vitest";
import { age, change, country, csv, duration, metric, short } from "./format";

test.each([
  [0, "0"],
  [1284, "1,284"],
  [9999, "9,999"],
  [12_840, "12.8k"],
  [128_400, "128k"],
  [999_499, "999k"],
  [999_600, "1M"],
  [3_400_000, "3.4M"],
  [2_000_000_000, "2B"],
])("short(%d) = %s", (n, s) => expect(short(n)).toBe(s));

test.each([
  [300, "0.3 s"],
  [-5, "0.0 s"],
  [12_400, "12 s"],
  [240_000, "4 min"],
  [7_200_000, "2 h"],
  [200_000_000, "2 d"],
])("age(%d) = %s", (ms, s) => expect(age(ms)).toBe(s));

test.each([
  [45, "45s"],
  [185, "3m 05s"],
  [4320, "1h 12m"],
])("duration(%d) = %s", (n, s) => expect(duration(n)).toBe(s));

describe("metrics", () => {
  test("each in its unit", () => {
    expect(metric("bounce_rate", 41.6)).toBe("42%");
    expect(metric("views_per_visit", 2.5)).toBe("2.5");
    expect(metric("views_per_visit", 2)).toBe("2");
    expect(metric("visit_duration", 61)).toBe("1m 01s");
    expect(metric("pageviews", 12_840)).toBe("12.8k");
  });
  test("change, where there is something to compare with", () => {
    expect(change(150, 100)).toBe(50);
    expect(change(0, 100)).toBe(-100);
    expect(change(5, 0)).toBeNull();
  });
});

test("countries", () => {
  expect(country("DE")).toBe("Germany");
  expect(country("")).toBe("Unknown");
  expect(country("<b>")).toBe("<b>");
});

test("csv quotes what needs it and disarms formulas", () => {
  expect(
    csv([
      ["page", "n"],
      ['a"b,c', 1],
      ["=1+1", null],
      ["-5", -5],
      ["a\nb", 2],
    ]),
  ).toBe('page,n\r\n"a""b,c",1\r\n\'=1+1,\r\n\'-5,-5\r\n"a\nb",2\r\n');
});
