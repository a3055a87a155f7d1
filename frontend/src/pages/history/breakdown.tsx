import { useState } from "react";
import { type QueryRequest, query, useQuery } from "../../api";
import { downloadCsv } from "../../csv";
import type { Route } from "../../route";
import { SEARCH_SHORTCUT } from "../../shortcuts";
import { BarList } from "../../ui/bar-list";
import { SkeletonBars } from "../../ui/skeleton";
import { Tabs } from "../../ui/tabs";
import { breakdownRows } from "./breakdown-rows";
import { type BreakdownCard, type BreakdownTab, dimensionName } from "./dimensions";
import { topQuery } from "./queries";
import { SearchDialog } from "./search-dialog";

const SHOWN_ROWS = 9;
const MAX_CSV_ROWS = 10_000;

interface Props {
  card: BreakdownCard;
  route: Route;
  /** Null while the site loads. */
  base: QueryRequest | null;
  refresh: number;
  wide: boolean;
  /** Beginning of the CSV file's name. */
  fileName: string;
}

/** A card with the most frequent values of a dimension; its tabs select the dimension. */
export function Breakdown({ card, route, base, refresh, wide, fileName }: Props) {
  const [tab, setTab] = useState(card.tabs[0]);
  const [searchOpen, setSearchOpen] = useState(false);
  // One row more than shown reveals whether there are more.
  const { data, error, loading } = useQuery(
    base && topQuery(base, tab.id, [tab.metric], SHOWN_ROWS + 1),
    refresh,
  );
  const rows = breakdownRows(data?.results ?? [], tab.id, route);
  const dimmed = error || (loading && data) ? "opacity-60" : "";
  return (
    <section
      aria-label={card.name}
      className={`card flex min-h-[26rem] flex-col p-4 ${wide ? "md:col-span-2 md:min-h-48" : ""}`}
    >
      <div className="mb-3 flex items-start justify-between gap-2">
        {card.tabs.length > 1 ? (
          <Tabs
            label={card.name}
            tabs={card.tabs}
            selected={tab.id}
            onSelect={(id) => setTab(card.tabs.find((t) => t.id === id) as BreakdownTab)}
            className="flex flex-wrap gap-1"
            tabClassName="px-2 py-1 aria-selected:font-semibold"
          />
        ) : (
          <h2 className="px-2 py-1 font-semibold">{card.name}</h2>
        )}
        <span className="px-2 py-1 text-xs text-soft">{tab.metric === "events" ? "events" : "people"}</span>
      </div>
      <div className={`flex-1 transition-opacity duration-150 ${dimmed}`}>
        {data ? (
          <BarList rows={rows.slice(0, SHOWN_ROWS)} empty="Nothing in this period." />
        ) : error ? (
          <p className="px-2 text-soft">{error.message}</p>
        ) : (
          <div className="flex flex-col gap-1">
            <SkeletonBars widths={[92, 74, 61, 48, 36]} className="h-8" />
          </div>
        )}
      </div>
      <div className="mt-3 flex min-h-7 items-center justify-between text-soft">
        {rows.length > SHOWN_ROWS ? (
          <button
            type="button"
            className="quiet target px-2 py-1"
            data-shortcut={SEARCH_SHORTCUT}
            onClick={() => setSearchOpen(true)}
          >
            More…
          </button>
        ) : (
          <span />
        )}
        {base && rows.length > 0 && (
          <button
            type="button"
            className="quiet target px-2 py-1 text-xs"
            onClick={() => downloadBreakdown(base, tab, fileName)}
          >
            CSV
          </button>
        )}
      </div>
      {searchOpen && base && (
        <SearchDialog tab={tab} route={route} base={base} onClose={() => setSearchOpen(false)} />
      )}
    </section>
  );
}

/** Saves all values of the tab's dimension, up to MAX_CSV_ROWS. */
async function downloadBreakdown(base: QueryRequest, tab: BreakdownTab, fileName: string): Promise<void> {
  const columns = ["visitors", "pageviews", "events"];
  const { results } = await query(topQuery(base, tab.id, columns, MAX_CSV_ROWS));
  downloadCsv(`${fileName} ${tab.name}.csv`, [
    [dimensionName(tab.id), "people", "page views", "events"],
    ...results.map((r) => [r.dimensions[0] ?? "", ...r.metrics]),
  ]);
}
