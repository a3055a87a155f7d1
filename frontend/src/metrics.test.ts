import { describe, expect, test } from "vitest";
import { formatMetric, percentChange } from "./metrics";

describe("metrics", () => {
  test("each metric has its unit", () => {
    expect(formatMetric("bounce_rate", 41.6)).toBe("42%");
    expect(formatMetric("views_per_visit", 2.5)).toBe("2.5");
    expect(formatMetric("views_per_visit", 2)).toBe("2");
    expect(formatMetric("visit_duration", 61)).toBe("1m 01s");
    expect(formatMetric("pageviews", 12_840)).toBe("12.8k");
  });
  test("percent change, unless the previous value is 0", () => {
    expect(percentChange(150, 100)).toBe(50);
    expect(percentChange(0, 100)).toBe(-100);
    expect(percentChange(5, 0)).toBeNull();
  });
});
