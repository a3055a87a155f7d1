import { useState } from "react";
import type { Site } from "../../api";
import { formatExact, formatShort, formatTime, formatTimeZone } from "../../format";
import { CHART_SECONDS, type Model, type Second } from "../../live/model";
import type { Live } from "../../live/stream";
import type { Route } from "../../route";
import { LiveChart } from "../../ui/live-chart";
import { FilteredHeadline, Headline, isDimmed } from "./headline";
import { useLastVisit } from "./last-visit";
import { Lists } from "./lists";
import { NoAccess } from "./no-access";
import { Onboarding } from "./onboarding";

interface Props {
  route: Route;
  /** Null while the sites load. */
  site: Site | null;
  live: Live;
  theme: string;
}

export function LivePage({ route, site, live, theme }: Props) {
  const { model, connection } = live;
  const timezone = site?.timezone ?? "UTC";
  const dimmed = isDimmed(connection);
  const opacity = dimmed ? "opacity-50" : "";
  const quiet = model.visitors === 0 && model.seconds.size === 0;
  const lastVisit = useLastVisit(route.site, quiet).data;
  if (connection.state === "refused" && [401, 403, 404].includes(connection.status))
    return <NoAccess status={connection.status} site={route.site} embed={route.embed} />;
  if (quiet && lastVisit === "never" && !route.embed) return <Onboarding site={route.site} />;
  const isFiltered = Object.keys(route.liveFilter).length > 0;
  return (
    <div className="flex flex-col gap-4">
      <section
        aria-label="People here now"
        className="card grid gap-x-6 gap-y-4 p-4 sm:p-6 md:grid-cols-[260px_minmax(0,1fr)]"
      >
        <div className={`flex flex-col justify-center transition-opacity duration-150 ${opacity}`}>
          <h1 className="sr-only">{route.site}, live</h1>
          {isFiltered ? (
            <FilteredHeadline route={route} total={model.visitors} />
          ) : (
            <Headline model={model} />
          )}
          <Announcement visitors={model.visitors} />
          <p className="mt-2 min-h-5 text-soft">
            {quiet && lastVisit
              ? `Last visit: ${lastVisit}.`
              : model.newestSecond && describeSecond(model.newestSecond)}
          </p>
        </div>
        <div className="min-w-0">
          <div className="mb-1 flex flex-wrap items-baseline justify-between gap-2 text-xs text-soft">
            <span>Page views of the last 5 minutes, a bar a second</span>
            <span className="flex items-center gap-3">
              <PatternLegend name="final" />
              <PatternLegend name="provisional" hatched />
            </span>
          </div>
          <LiveChart model={model} timezone={timezone} dimmed={dimmed} theme={theme} />
          <PowerCut model={model} timezone={timezone} />
        </div>
      </section>
      {!route.embed && (
        <>
          <Lists route={route} now={model.now} dimmed={dimmed} />
          <p className="text-xs text-soft">
            Here now: a page view or event in the last 5 minutes. Times are in {formatTimeZone(timezone)}.
          </p>
        </>
      )}
    </div>
  );
}

/** Says that seconds of the chart may lack views, because the server lost its power. */
function PowerCut({ model: { cut, finalThrough }, timezone }: { model: Model; timezone: string }) {
  if (!cut || cut.at / 1000 < finalThrough - CHART_SECONDS) return null;
  const [after, at] = [formatTime(cut.after, timezone), formatTime(cut.at, timezone)];
  return (
    <p className="mt-1 text-xs text-soft">
      The server lost its power: some views between {after} and {at} may be missing.
    </p>
  );
}

function describeSecond({ pageviews, visitors }: Second): string {
  const views = `${formatShort(pageviews)} ${pageviews === 1 ? "view" : "views"} this second`;
  return `${views} · ${formatShort(visitors)} ${visitors === 1 ? "person" : "people"}`;
}

function PatternLegend({ name, hatched = false }: { name: string; hatched?: boolean }) {
  return (
    <span className="flex items-center gap-1.5">
      <svg aria-hidden="true" width="10" height="10" className="text-accent">
        {hatched ? (
          <>
            <rect x="0.5" y="0.5" width="9" height="9" fill="none" stroke="currentColor" />
            <path d="M0 10 10 0M-3 6 3 0M7 10 13 4" stroke="currentColor" />
          </>
        ) : (
          <rect width="10" height="10" fill="currentColor" />
        )}
      </svg>
      {name}
    </span>
  );
}

const ANNOUNCEMENT_INTERVAL = 10_000; // ms

/** Announces the number of visitors to screen readers, at most once per ANNOUNCEMENT_INTERVAL. */
function Announcement({ visitors }: { visitors: number | null }) {
  const [announced, setAnnounced] = useState({ text: "", at: Number.NEGATIVE_INFINITY });
  const text = visitors === null ? "" : `${formatExact(visitors)} people here now`;
  const now = performance.now();
  if (text !== announced.text && now - announced.at > ANNOUNCEMENT_INTERVAL) setAnnounced({ text, at: now });
  return (
    <span aria-live="polite" className="sr-only">
      {announced.text}
    </span>
  );
}
