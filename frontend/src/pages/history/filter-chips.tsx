import { href, navigate, type Route } from "../../route";
import { DimensionValue, dimensionName } from "./dimensions";

/** The page's filters; a click removes one. */
export function FilterChips({ route }: { route: Route }) {
  if (route.filters.length === 0) return null;
  return (
    <ul aria-label="Filters" className="flex flex-wrap items-center gap-2">
      {route.filters.map((filter) => (
        <li key={`${filter.dimension} ${filter.value}`}>
          <button
            type="button"
            className="button max-w-72"
            aria-label={`Remove the filter ${dimensionName(filter.dimension)} is ${filter.value}`}
            onClick={() => {
              const filters = route.filters.filter((f) => f !== filter);
              navigate(href({ ...route, filters }));
            }}
          >
            <span className="truncate">
              <span className="font-normal text-soft">{dimensionName(filter.dimension)} is</span>{" "}
              <DimensionValue {...filter} />
            </span>
            <span aria-hidden>×</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
