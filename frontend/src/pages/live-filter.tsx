import { country, exact, short } from "../format";
import type { Filter, Model } from "../live/model";
import { useLive } from "../live/use-live";
import { href, type Route } from "../route";
import { Link } from "../ui/bits";

const names: Record<keyof Filter, string> = {
  page: "Page",
  source: "Source",
  country: "Country",
  device: "Device",
};

/** The number that the page is about. A null is not known yet. */
export function Headline({ model, testId = "visitors" }: { model: Model; testId?: string }) {
  const { visitors, upperBound } = model;
  return (
    <p>
      {upperBound && <span className="block text-lg text-soft">at most</span>}
      <span
        key={visitors ?? "none"}
        data-testid={testId}
        title={visitors === null ? undefined : exact(visitors)}
        className="appear block text-6xl font-semibold tracking-tight"
      >
        {visitors === null ? "–" : short(visitors)}
      </span>
      <span className="text-lg text-soft">{visitors === 1 ? "person here now" : "people here now"}</span>
    </p>
  );
}

/** The number of those that the filter is about, by a stream of its own, and the way back to everybody. */
export function FilteredHeadline({ route, all }: { route: Route; all: number | null }) {
  const { model, connection } = useLive(route.site, route.live);
  const [kind, value] = Object.entries(route.live)[0] as [keyof Filter, string];
  const old = connection.state !== "live" && connection.state !== "connecting";
  return (
    <div>
      <div className={old ? "opacity-50" : ""}>
        <Headline model={model} testId="filtered" />
      </div>
      <Link
        href={href({ page: "live", site: route.site })}
        className="button mt-2 max-w-full"
        aria-label={`Remove the filter ${names[kind]} is ${value}`}
      >
        <span className="truncate">
          <span className="font-normal text-soft">{names[kind]} is</span>{" "}
          {kind === "country" ? country(value) : value}
        </span>
        <span aria-hidden>×</span>
      </Link>
      <p className="mt-1 text-soft">
        {all === null ? "" : `of ${short(all)} in all; chart and lists show all`}
      </p>
    </div>
  );
}
