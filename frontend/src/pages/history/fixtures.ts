/** What the tests of the history page have in common. */
import { SITE } from "../../testing/dashboard";
import type { ApiRequest, FakeApi } from "../../testing/fake-api";

export const HISTORY = `/${SITE}/history`;
export const QUERY = "POST /api/v2/query";

/** What a query is for: totals, a series, or the values of a dimension. */
export function kindOf({ body }: ApiRequest): string {
  const [dimension] = body.dimensions ?? [];
  if (!dimension) return "totals";
  return dimension.startsWith("time:") ? "series" : dimension;
}
export const queries = (api: FakeApi, kind: string) => api.received(QUERY).filter((r) => kindOf(r) === kind);
export const isToday = ({ body }: ApiRequest) => body.date_range[0] === "2026-11-23";

export type Result = [dimensions: string[], ...metrics: (number | null)[]];
export const response = (...results: Result[]) => ({
  results: results.map(([dimensions, ...metrics]) => ({ dimensions, metrics })),
  meta: {},
});

/** Answers today's and yesterday's queries. */
export function respondWithData(api: FakeApi): void {
  api.on(QUERY, (r) => {
    switch (kindOf(r)) {
      case "totals":
        return isToday(r)
          ? response([[], 12_840, 20, 30, 1.5, 40, null])
          : response([[], 10_000, 20, 0, 1, 80, 0]);
      case "series":
        return response([["2026-11-23 13:00:00"], 3], [["2026-11-23 14:00:00"], 2]);
      case "event:page":
        return response(...Array.from({ length: 10 }, (_, i): Result => [[`/p${i}`], 100 - i]));
      case "visit:source":
        return response([["Direct / None"], 7], [["Google"], 3]);
      default:
        return response();
    }
  });
}
