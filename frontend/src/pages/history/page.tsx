import { useEffect, useMemo, useState } from "react";
import type { Site } from "../../api";
import { formatTimeZone } from "../../format";
import { metricInfo } from "../../metrics";
import { type DateRange, previousPeriod, resolvePeriod } from "../../period";
import type { Route } from "../../route";
import { LedgerCard } from "../../ui/ledger";
import { Notice } from "../../ui/notice";
import { Breakdown } from "./breakdown";
import { breakdownCards } from "./dimensions";
import { FilterChips } from "./filter-chips";
import { PeriodPicker } from "./period-picker";
import { baseQuery, useSummary } from "./queries";
import { SummaryCard } from "./summary-card";

const REFRESH_INTERVAL = 30_000; // ms, for a date range that contains the present

interface Props {
  route: Route;
  /** Null while the sites load. */
  site: Site | null;
  theme: string;
  /** The request's credential is a session: the ledger may be readable. */
  isAuthenticated: boolean;
}

const QUARTER = 900_000; // ms; in every time zone, hours and days begin at a multiple of it

/** The begin of the present quarter of an hour, for a page that stays open over the end of an hour or a day. */
function useQuarter(): number {
  const [quarter, setQuarter] = useState(currentQuarter);
  useEffect(() => {
    const timer = setInterval(() => setQuarter(currentQuarter()), REFRESH_INTERVAL);
    return () => clearInterval(timer);
  }, []);
  return quarter;
}

function currentQuarter(): number {
  const now = Date.now();
  return now - (now % QUARTER);
}

export function HistoryPage({ route, site, theme, isAuthenticated }: Props) {
  const timezone = site?.timezone ?? "UTC";
  const now = useQuarter();
  const { range, previousRange } = useMemo(
    () => ({
      range: resolvePeriod(route.period, now, timezone),
      previousRange: resolvePeriod(previousPeriod(route.period), now, timezone),
    }),
    [route.period, now, timezone],
  );
  const refresh = range.partialBucket ? REFRESH_INTERVAL : 0;
  const queryOf = (r: DateRange) => ({ base: site && baseQuery(route.site, r, route.filters), range: r });
  const current = queryOf(range);
  const metric = metricInfo(route.metric);
  const summary = useSummary(current, queryOf(previousRange), metric, refresh);
  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="sr-only">{route.site}, history</h1>
        <FilterChips route={route} />
        <div className="ml-auto flex flex-wrap items-center gap-2">
          <PeriodPicker route={route} range={range} />
        </div>
      </div>
      {summary.error && <Notice kind="error">{summary.error.message}</Notice>}
      {summary.totals.data?.meta.warnings?.map(({ code, warning }) => (
        <Notice key={code}>{warning}</Notice>
      ))}
      <SummaryCard
        route={route}
        metric={metric}
        range={range}
        previousRange={previousRange}
        summary={summary}
        theme={theme}
      />
      <div className="grid gap-4 md:grid-cols-2">
        {breakdownCards.map((card, i) => (
          <Breakdown
            key={card.name}
            card={card}
            route={route}
            base={current.base}
            refresh={refresh}
            wide={i === breakdownCards.length - 1}
            fileName={`${route.site} ${range.label}`}
          />
        ))}
      </div>
      <p className="text-xs text-soft">
        Times are in {formatTimeZone(timezone)}. {range.partialBucket && "The newest point is incomplete. "}A
        person who comes back on another day counts again.
      </p>
      {isAuthenticated && site && <LedgerCard site={route.site} range={range} refresh={refresh} />}
    </div>
  );
}
