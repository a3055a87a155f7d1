import { expect, test } from "vitest";
import { countryName, formatAge, formatDuration, formatShort } from "./format";

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
])("formatShort(%d) = %s", (n, s) => expect(formatShort(n)).toBe(s));

test.each([
  [300, "0.3 s"],
  [-5, "0.0 s"],
  [12_400, "12 s"],
  [240_000, "4 min"],
  [7_200_000, "2 h"],
  [200_000_000, "2 d"],
])("formatAge(%d) = %s", (ms, s) => expect(formatAge(ms)).toBe(s));

test.each([
  [45, "45s"],
  [185, "3m 05s"],
  [4320, "1h 12m"],
])("formatDuration(%d) = %s", (n, s) => expect(formatDuration(n)).toBe(s));

test("countries", () => {
  expect(countryName("DE")).toBe("Germany");
  expect(countryName("")).toBe("Unknown");
  expect(countryName("<b>")).toBe("<b>");
});
