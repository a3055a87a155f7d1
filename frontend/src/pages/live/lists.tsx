import { useState } from "react";
import { DIRECT, formatShort } from "../../format";
import type { Now } from "../../live/model";
import { href, type LiveDimension, type Route } from "../../route";
import { BarList, type BarRow } from "../../ui/bar-list";
import { Country } from "../../ui/country";
import { SkeletonBars } from "../../ui/skeleton";
import { Tabs } from "../../ui/tabs";

interface ListInfo {
  id: Exclude<keyof Now, "rest">;
  dimension: LiveDimension;
  name: string;
  empty: string;
}

const lists: ListInfo[] = [
  { id: "pages", dimension: "page", name: "Pages", empty: "Nobody is on a page now." },
  { id: "sources", dimension: "source", name: "Sources", empty: "No source yet." },
  { id: "countries", dimension: "country", name: "Countries", empty: "No country is known." },
  { id: "devices", dimension: "device", name: "Devices", empty: "No device is known." },
];

interface Props {
  route: Route;
  /** Null before the first frame. */
  now: Now | null;
  dimmed: boolean;
}

/** Where the active visitors are. A narrow screen shows one list, which tabs select. */
export function Lists({ route, now, dimmed }: Props) {
  const [selected, setSelected] = useState<ListInfo["id"]>("pages");
  const opacity = dimmed ? "opacity-50" : "";
  return (
    <>
      <Tabs
        label="Lists"
        tabs={lists}
        selected={selected}
        onSelect={setSelected}
        className="flex gap-1 overflow-x-auto md:hidden"
        tabClassName="px-3 py-1.5 font-medium"
      />
      <div className={`grid gap-4 transition-opacity duration-150 md:grid-cols-2 lg:grid-cols-4 ${opacity}`}>
        {lists.map((list) => (
          <section
            key={list.id}
            aria-label={`${list.name} now`}
            className={`card min-h-64 p-4 ${selected === list.id ? "" : "max-md:hidden"}`}
          >
            <h2 className="mb-3 flex justify-between px-2 font-semibold">
              {list.name} <span className="font-normal text-soft">now</span>
            </h2>
            {now ? (
              <List route={route} now={now} list={list} />
            ) : (
              <div className="flex flex-col gap-2 px-2">
                <SkeletonBars widths={[80, 60, 40]} className="h-6" />
              </div>
            )}
          </section>
        ))}
      </div>
    </>
  );
}

function List({ route, now, list }: { route: Route; now: Now; list: ListInfo }) {
  const values = now[list.id] as [string, number][];
  const rest = now.rest[list.id];
  return (
    <>
      <BarList
        live
        rows={values.map(([value, visitors]) => listRow(route, list, value, visitors))}
        total={values.reduce((n, [, visitors]) => n + visitors, rest)}
        empty={list.empty}
        testId={`now-${list.id}`}
      />
      {rest > 0 && <p className="mt-2 px-2 text-xs text-soft">{formatShort(rest)} more in other values</p>}
    </>
  );
}

/** The row of a value. A click filters by the value; a second click removes the filter. */
function listRow({ site, liveFilter }: Route, list: ListInfo, value: string, visitors: number): BarRow {
  const isSource = list.id === "sources";
  // An empty source is a direct visit, which has a name in filters. Other empty values have none.
  const filterValue = value || (isSource ? DIRECT : "");
  const isCurrent = liveFilter[list.dimension] === filterValue;
  const toggled = { site, liveFilter: isCurrent ? {} : { [list.dimension]: filterValue } };
  return {
    key: value || "-",
    value: visitors,
    label: list.id === "countries" ? <Country code={value} /> : value || (isSource ? "Direct" : "Unknown"),
    title: value,
    href: filterValue ? href({ page: "live", ...toggled }) : undefined,
    isCurrent,
  };
}
