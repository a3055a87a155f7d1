import type { QueryResponse } from "../../api";
import { href, type Route } from "../../route";
import type { BarRow } from "../../ui/bar-list";
import { DimensionValue } from "./dimensions";

/** The rows of a response. A click filters by the row's value, unless it is empty or filtered by already. */
export function breakdownRows(results: QueryResponse["results"], dimension: string, route: Route): BarRow[] {
  return results.map((r) => {
    const value = r.dimensions[0] ?? "";
    const filter = { dimension, value };
    const isFiltered = route.filters.some((f) => f.dimension === dimension && f.value === value);
    const filtered = () => href({ ...route, page: "history", filters: [...route.filters, filter] });
    return {
      key: value || "-",
      label: <DimensionValue dimension={dimension} value={value} />,
      value: r.metrics[0] ?? 0,
      title: value,
      href: value && !isFiltered ? filtered() : undefined,
    };
  });
}
