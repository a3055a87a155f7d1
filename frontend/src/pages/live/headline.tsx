import { countryName, formatExact, formatShort } from "../../format";
import type { Model } from "../../live/model";
import type { Connection } from "../../live/stream";
import { useLive } from "../../live/use-live";
import { href, type LiveDimension, type Route } from "../../route";
import { Link } from "../../ui/link";

/** Reports whether the shown numbers are old. */
export const isDimmed = ({ state }: Connection): boolean => state !== "live" && state !== "connecting";

/** The number of active visitors. */
export function Headline({ model, testId = "visitors" }: { model: Model; testId?: string }) {
  const { visitors, upperBound, incomplete } = model;
  return (
    <p>
      {upperBound && <span className="block text-lg text-soft">at most</span>}
      <span
        key={visitors ?? "none"}
        data-testid={testId}
        title={visitors === null ? undefined : formatExact(visitors)}
        className="appear block text-6xl font-semibold tracking-tight"
      >
        {visitors === null ? "–" : formatShort(visitors)}
      </span>
      <span className="text-lg text-soft">{visitors === 1 ? "person here now" : "people here now"}</span>
      {incomplete && (
        <span className="block text-sm text-soft">
          Some visitors are missing: a part of Nowcast stands still.
        </span>
      )}
    </p>
  );
}

const liveDimensionNames: Record<LiveDimension, string> = {
  page: "Page",
  source: "Source",
  country: "Country",
  device: "Device",
};

/** The number of active visitors that match the filter, from a stream of its own. `total` counts all. */
export function FilteredHeadline({ route, total }: { route: Route; total: number | null }) {
  const { model, connection } = useLive(route.site, route.liveFilter);
  const [dimension, value] = Object.entries(route.liveFilter)[0] as [LiveDimension, string];
  const name = liveDimensionNames[dimension];
  return (
    <div>
      <div className={isDimmed(connection) ? "opacity-50" : ""}>
        <Headline model={model} testId="filtered" />
      </div>
      <Link
        href={href({ page: "live", site: route.site })}
        className="button mt-2 max-w-full"
        aria-label={`Remove the filter ${name} is ${value}`}
      >
        <span className="truncate">
          <span className="font-normal text-soft">{name} is</span>{" "}
          {dimension === "country" ? countryName(value) : value}
        </span>
        <span aria-hidden>×</span>
      </Link>
      <p className="mt-1 text-soft">
        {total === null ? "" : `of ${formatShort(total)} in all; chart and lists show all`}
      </p>
    </div>
  );
}
