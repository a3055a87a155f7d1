import { useMemo, useState } from "react";
import { type QueryRequest, query, type Site, useQuery } from "../api";
import { change, csv, DIRECT, download, exact, type Metric, metric, metrics } from "../format";
import { before, presets, resolve, type Span } from "../period";
import { type Filter, go, href, type Route } from "../route";
import { BarList, type Row } from "../ui/bar-list";
import { Country, Dialog, Notice } from "../ui/bits";
import { HistoryChart } from "../ui/history-chart";
import { LedgerCard } from "../ui/ledger";

interface Tab {
  dimension: string;
  name: string;
  metric?: "visitors" | "events";
}

const cards: { name: string; tabs: Tab[] }[] = [
  {
    name: "Pages",
    tabs: [
      { dimension: "event:page", name: "Pages" },
      { dimension: "visit:entry_page", name: "Entry" },
      { dimension: "visit:exit_page", name: "Exit" },
    ],
  },
  {
    name: "Sources",
    tabs: [
      { dimension: "visit:source", name: "Sources" },
      { dimension: "visit:channel", name: "Channels" },
      { dimension: "visit:referrer", name: "Referrers" },
      { dimension: "visit:utm_source", name: "UTM source" },
      { dimension: "visit:utm_medium", name: "Medium" },
      { dimension: "visit:utm_campaign", name: "Campaign" },
    ],
  },
  {
    name: "Countries",
    tabs: [
      { dimension: "visit:country", name: "Countries" },
      { dimension: "visit:region", name: "Regions" },
      { dimension: "visit:city", name: "Cities" },
    ],
  },
  {
    name: "Devices",
    tabs: [
      { dimension: "visit:device", name: "Devices" },
      { dimension: "visit:screen", name: "Screens" },
      { dimension: "visit:browser", name: "Browsers" },
      { dimension: "visit:os", name: "Systems" },
    ],
  },
  { name: "Events", tabs: [{ dimension: "event:name", name: "Events", metric: "events" }] },
];

export const dimensionName = (dimension: string): string => {
  const one: Record<string, string> = {
    "event:page": "Page",
    "visit:entry_page": "Entry page",
    "visit:exit_page": "Exit page",
    "visit:source": "Source",
    "visit:channel": "Channel",
    "visit:country": "Country",
    "visit:region": "Region",
    "visit:city": "City",
    "visit:screen": "Screen",
    "visit:device": "Device",
    "visit:browser": "Browser",
    "visit:os": "System",
    "event:name": "Event",
    "visit:referrer": "Referrer",
  };
  return one[dimension] ?? dimension.replace(/^\w+:/, "").replaceAll("_", " ");
};

const REFRESH = 30_000;
const LIMIT = 9;

interface Props {
  route: Route;
  site: Site | null;
  theme: string;
  /** Somebody is logged in. */
  known: boolean;
}

export function HistoryPage({ route, site, theme, known }: Props) {
  const timezone = site?.timezone ?? "UTC";
  const [minute] = useState(() => Date.now());
  const span = useMemo(() => resolve(route.period, minute, timezone), [route.period, minute, timezone]);
  const past = useMemo(
    () => resolve(before(route.period), minute, timezone),
    [route.period, minute, timezone],
  );
  const ready = site !== null;
  const refresh = span.growing ? REFRESH : 0;
  const base = (s: Span): QueryRequest => ({
    site_id: route.site,
    metrics: [],
    date_range: s.range,
    ...(route.filters.length ? { filters: filters(route.filters) } : {}),
  });
  const all = metrics.map((m) => m.id);
  const totals = useQuery(ready ? { ...base(span), metrics: all } : null, refresh);
  const pastTotals = useQuery(ready ? { ...base(past), metrics: all } : null);
  const series = (s: Span): QueryRequest => ({ ...base(s), metrics: [route.metric], dimensions: [s.grain] });
  const line = useQuery(ready ? series(span) : null, refresh);
  const pastLine = useQuery(ready ? series(past) : null);
  const error = totals.error ?? line.error;
  const chosen = metrics.find((m) => m.id === route.metric) as (typeof metrics)[number];
  const growing = span.growing ? span.buckets.indexOf(span.growing) : -1;
  const values = fill(span, line.data?.results, route.metric).map((v, i) =>
    growing >= 0 && i > growing ? null : v,
  );
  const set = (change: Partial<Route>) => go(href({ ...route, ...change }));
  const loading = (l: { loading: boolean; data: unknown }) => (l.loading && l.data ? "opacity-60" : "");

  const save = () =>
    download(
      `${route.site} ${span.range[0].slice(0, 10)} to ${span.range[1].slice(0, 10)}.csv`,
      csv([["time", chosen.name], ...span.buckets.map((b, i) => [b, values[i] ?? null])]),
    );

  return (
    <div className="flex flex-col gap-4">
      <div className="flex flex-wrap items-center gap-2">
        <h1 className="sr-only">{route.site}, history</h1>
        <Chips route={route} />
        <div className="ml-auto flex flex-wrap items-center gap-2">
          <Periods route={route} span={span} />
        </div>
      </div>
      {error && <Notice kind="bad">{error.message}</Notice>}
      <section aria-label="Totals and chart" className="card overflow-hidden">
        <div className="grid grid-cols-2 sm:grid-cols-3 lg:grid-cols-6">
          {metrics.map((m, i) => (
            <Total
              key={m.id}
              id={m.id}
              name={m.name}
              lower={m.lower}
              value={totals.data?.results[0]?.metrics[i] ?? null}
              past={pastTotals.data?.results[0]?.metrics[i] ?? null}
              loaded={totals.data !== null}
              stale={error !== null}
              chosen={route.metric === m.id}
              choose={() => set({ metric: m.id })}
            />
          ))}
        </div>
        <div className={`p-4 transition-opacity duration-150 ${error ? "opacity-50" : loading(line)}`}>
          <div className="mb-2 flex flex-wrap items-center justify-between gap-2 text-xs text-soft">
            <span className="flex flex-wrap items-center gap-x-4 gap-y-1">
              <Stroke name={span.label} /> <Stroke name={past.label} dotted />
            </span>
            <button type="button" className="quiet target px-2 py-1" onClick={save}>
              CSV
            </button>
          </div>
          {line.data || error ? (
            <HistoryChart
              id={route.metric}
              name={chosen.name}
              grain={span.grain}
              buckets={span.buckets}
              values={values}
              past={fill(past, pastLine.data?.results, route.metric)}
              growing={growing}
              theme={theme}
            />
          ) : (
            <div className="skeleton h-64" />
          )}
        </div>
      </section>
      <div className="grid gap-4 md:grid-cols-2">
        {cards.map((c, i) => (
          <Breakdown
            key={c.name}
            card={c}
            route={route}
            base={ready ? base(span) : null}
            refresh={refresh}
            wide={i === cards.length - 1}
            file={`${route.site} ${span.label}`}
          />
        ))}
      </div>
      <p className="text-xs text-soft">
        Times are in {timezone.replaceAll("_", " ")}. {growing >= 0 && "The newest point is still growing."} A
        person is counted anew each day.
      </p>
      {known && ready && <LedgerCard site={route.site} span={span} refresh={refresh} />}
    </div>
  );
}

const filters = (all: Filter[]): unknown[] => {
  const by = new Map<string, string[]>();
  for (const f of all) by.set(f.dimension, [...(by.get(f.dimension) ?? []), f.value]);
  return [...by].map(([dimension, values]) => ["is", dimension, values]);
};

/** One value a bucket: a bucket without an event is 0, or unknown where a rate has nothing to divide by. */
function fill(
  span: Span,
  results: { metrics: (number | null)[]; dimensions: string[] }[] | undefined,
  id: Metric,
): (number | null)[] {
  const by = new Map(
    results?.map((r) => [r.dimensions[0]?.slice(0, span.buckets[0]?.length), r.metrics[0] ?? null]),
  );
  const none = id === "bounce_rate" || id === "visit_duration" || id === "views_per_visit" ? null : 0;
  return span.buckets.map((b) => (by.has(b) ? (by.get(b) as number | null) : none));
}

function Stroke({ name, dotted = false }: { name: string; dotted?: boolean }) {
  return (
    <span className="flex items-center gap-1.5">
      <svg aria-hidden="true" width="16" height="8" className={dotted ? "text-(--past)" : "text-accent"}>
        <path
          d="M1 4h14"
          stroke="currentColor"
          strokeWidth="2"
          strokeDasharray={dotted ? "2 3" : undefined}
        />
      </svg>
      {name}
    </span>
  );
}

interface TotalProps {
  id: Metric;
  name: string;
  lower?: boolean;
  value: number | null;
  past: number | null;
  loaded: boolean;
  stale: boolean;
  chosen: boolean;
  choose: () => void;
}

function Total({ id, name, lower, value, past, loaded, stale, chosen, choose }: TotalProps) {
  const diff = value !== null && past !== null ? change(value, past) : null;
  const good = diff !== null && diff !== 0 && diff > 0 !== !!lower;
  return (
    <button
      type="button"
      aria-pressed={chosen}
      onClick={choose}
      className={`relative flex min-h-24 flex-col items-start gap-1 border-r border-b border-line p-4 text-left hover:bg-raised ${chosen ? "after:absolute after:inset-x-0 after:bottom-0 after:h-0.5 after:bg-accent" : ""}`}
    >
      <span className={chosen ? "font-medium text-accent-text" : "text-soft"}>{name}</span>
      <span
        data-testid={`total-${id}`}
        title={value === null ? undefined : exact(Math.round(value * 100) / 100)}
        className={`text-lg font-semibold ${stale ? "opacity-50" : ""}`}
      >
        {loaded ? value === null ? "–" : metric(id, value) : <span className="skeleton block h-6 w-14" />}
      </span>
      <span
        className="min-h-4 text-xs text-soft"
        title={past === null ? undefined : `${metric(id, past)} in the period before`}
      >
        {diff !== null && (
          <span className={diff === 0 ? "" : good ? "text-good" : "text-bad"}>
            {diff > 0 ? "↑" : diff < 0 ? "↓" : "="} {Math.abs(diff)}%
          </span>
        )}
      </span>
    </button>
  );
}

function Chips({ route }: { route: Route }) {
  if (route.filters.length === 0) return null;
  return (
    <ul aria-label="Filters" className="flex flex-wrap items-center gap-2">
      {route.filters.map((f) => (
        <li key={`${f.dimension} ${f.value}`}>
          <button
            type="button"
            className="button max-w-72"
            aria-label={`Remove the filter ${dimensionName(f.dimension)} is ${f.value}`}
            onClick={() => go(href({ ...route, filters: route.filters.filter((x) => x !== f) }))}
          >
            <span className="truncate">
              <span className="font-normal text-soft">{dimensionName(f.dimension)} is</span>{" "}
              {label(f.dimension, f.value)}
            </span>
            <span aria-hidden>×</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

function Periods({ route, span }: { route: Route; span: Span }) {
  const [custom, setCustom] = useState(false);
  const set = (period: Route["period"]) => go(href({ ...route, period }));
  const p = route.period;
  const days = span.buckets.filter((b) => b.length === 10);
  const [from, setFrom] = useState(days[0] ?? span.range[0].slice(0, 10));
  const [to, setTo] = useState(days.at(-1) ?? span.range[1].slice(0, 10));
  return (
    <>
      <div className="flex items-center gap-1">
        <button
          type="button"
          className="button px-2.5"
          aria-label="The period before"
          onClick={() => set({ ...p, offset: p.offset - 1 })}
        >
          ←
        </button>
        <select
          aria-label="Period"
          className="field font-medium"
          value={p.preset}
          onChange={(e) =>
            e.target.value === "custom"
              ? setCustom(true)
              : set({ preset: e.target.value as Route["period"]["preset"], offset: 0 })
          }
        >
          {presets.map((x) => (
            <option key={x.id} value={x.id}>
              {x.id === p.preset ? span.label : x.name}
            </option>
          ))}
          <option value="custom">{p.preset === "custom" ? span.label : "Custom…"}</option>
        </select>
        <button
          type="button"
          className="button px-2.5"
          aria-label="The period after"
          disabled={p.offset >= 0}
          onClick={() => set({ ...p, offset: p.offset + 1 })}
        >
          <span className={p.offset >= 0 ? "opacity-40" : ""}>→</span>
        </button>
      </div>
      {custom && (
        <Dialog title="Custom period" close={() => setCustom(false)}>
          <form
            className="flex flex-wrap items-end gap-3"
            onSubmit={(e) => {
              e.preventDefault();
              set({ preset: "custom", offset: 0, from: from < to ? from : to, to: from < to ? to : from });
              setCustom(false);
            }}
          >
            <label className="flex flex-col gap-1.5">
              From
              <input
                type="date"
                className="field"
                value={from}
                onChange={(e) => setFrom(e.target.value)}
                required
              />
            </label>
            <label className="flex flex-col gap-1.5">
              To
              <input
                type="date"
                className="field"
                value={to}
                onChange={(e) => setTo(e.target.value)}
                required
              />
            </label>
            <button type="submit" className="button button-primary min-h-9">
              Show
            </button>
          </form>
        </Dialog>
      )}
    </>
  );
}

function label(dimension: string, value: string) {
  if (dimension === "visit:country") return <Country code={value} />;
  return value === DIRECT ? "Direct" : value || "Unknown";
}

interface BreakdownProps {
  card: (typeof cards)[number];
  route: Route;
  base: QueryRequest | null;
  refresh: number;
  wide: boolean;
  file: string;
}

function Breakdown({ card, route, base, refresh, wide, file }: BreakdownProps) {
  const [at, setAt] = useState(0);
  const [more, setMore] = useState(false);
  const tab = card.tabs[at] as Tab;
  const counted = tab.metric ?? "visitors";
  const ask: QueryRequest | null = base && {
    ...base,
    metrics: [counted],
    dimensions: [tab.dimension],
    order_by: [[counted, "desc"]],
    pagination: { limit: LIMIT + 1, offset: 0 },
  };
  const { data, error, loading } = useQuery(ask, refresh);
  const rows = toRows(data?.results ?? [], tab.dimension, route);
  const save = async () => {
    if (!base) return;
    const r = await query({
      ...base,
      metrics: ["visitors", "pageviews", "events"],
      dimensions: [tab.dimension],
      order_by: [["visitors", "desc"]],
      pagination: { limit: 10_000, offset: 0 },
    });
    download(
      `${file} ${tab.name}.csv`,
      csv([
        [dimensionName(tab.dimension), "people", "page views", "events"],
        ...r.results.map((x) => [x.dimensions[0] ?? "", ...x.metrics]),
      ]),
    );
  };
  return (
    <section
      aria-label={card.name}
      className={`card flex min-h-[26rem] flex-col p-4 ${wide ? "md:col-span-2 md:min-h-48" : ""}`}
    >
      <div className="mb-3 flex items-start justify-between gap-2">
        {card.tabs.length > 1 ? (
          <div role="tablist" aria-label={card.name} className="flex flex-wrap gap-1">
            {card.tabs.map((t, i) => (
              <button
                key={t.dimension}
                type="button"
                role="tab"
                aria-selected={i === at}
                onClick={() => setAt(i)}
                className={`target rounded-md px-2 py-1 ${i === at ? "bg-raised font-semibold text-ink" : "quiet"}`}
              >
                {t.name}
              </button>
            ))}
          </div>
        ) : (
          <h2 className="px-2 py-1 font-semibold">{card.name}</h2>
        )}
        <span className="px-2 py-1 text-xs text-soft">{counted === "events" ? "events" : "people"}</span>
      </div>
      <div
        className={`flex-1 transition-opacity duration-150 ${error || (loading && data) ? "opacity-60" : ""}`}
      >
        {data ? (
          <BarList rows={rows.slice(0, LIMIT)} empty="Nothing in this period." />
        ) : error ? (
          <p className="px-2 text-soft">{error.message}</p>
        ) : (
          <div className="flex flex-col gap-1">
            {[92, 74, 61, 48, 36].map((w) => (
              <div key={w} className="skeleton h-8" style={{ width: `${w}%` }} />
            ))}
          </div>
        )}
      </div>
      <div className="mt-3 flex min-h-7 items-center justify-between text-soft">
        {rows.length > LIMIT ? (
          <button type="button" className="quiet target px-2 py-1" onClick={() => setMore(true)}>
            More…
          </button>
        ) : (
          <span />
        )}
        {rows.length > 0 && (
          <button type="button" className="quiet target px-2 py-1 text-xs" onClick={save}>
            CSV
          </button>
        )}
      </div>
      {more && base && <More tab={tab} route={route} base={base} close={() => setMore(false)} />}
    </section>
  );
}

function toRows(
  results: { metrics: (number | null)[]; dimensions: string[] }[],
  dimension: string,
  route: Route,
): Row[] {
  return results.map((r) => {
    const value = r.dimensions[0] ?? "";
    const chosen = route.filters.some((f) => f.dimension === dimension && f.value === value);
    return {
      key: value || "-",
      label: label(dimension, value),
      value: r.metrics[0] ?? 0,
      title: value,
      href:
        value && !chosen
          ? href({ ...route, page: "history", filters: [...route.filters, { dimension, value }] })
          : undefined,
    };
  });
}

function More({
  tab,
  route,
  base,
  close,
}: {
  tab: Tab;
  route: Route;
  base: QueryRequest;
  close: () => void;
}) {
  const [text, setText] = useState("");
  const [size, setSize] = useState(50);
  const counted = tab.metric ?? "visitors";
  const searched = text.trim()
    ? [
        ...((base.filters as unknown[] | undefined) ?? []),
        ["contains", tab.dimension, [text.trim()], { case_sensitive: false }],
      ]
    : base.filters;
  const { data, error } = useQuery({
    ...base,
    filters: searched as QueryRequest["filters"],
    metrics: [counted],
    dimensions: [tab.dimension],
    order_by: [[counted, "desc"]],
    pagination: { limit: size, offset: 0 },
  });
  const rows = toRows(data?.results ?? [], tab.dimension, route);
  return (
    <Dialog title={tab.name} close={close}>
      <div className="flex flex-col gap-3">
        <input
          className="field"
          type="search"
          aria-label={`Search ${tab.name}`}
          placeholder="Search"
          value={text}
          onChange={(e) => setText(e.target.value)}
        />
        {error && <Notice kind="bad">{error.message}</Notice>}
        <div className="min-h-96">
          <BarList rows={rows} empty={data ? "Nothing is called that." : "Loading…"} />
        </div>
        {rows.length === size && (
          <button type="button" className="button" onClick={() => setSize(size + 100)}>
            Show more
          </button>
        )}
      </div>
    </Dialog>
  );
}
