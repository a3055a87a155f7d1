import { useSyncExternalStore } from "react";
import type { Metric } from "./format";
import type { Filter as LiveFilter } from "./live/model";
import type { Period, Preset } from "./period";

/** Everything that a page shows is in its address, so that a link shows the same. */

export interface Filter {
  dimension: string;
  value: string;
}

export interface Route {
  page: "sites" | "live" | "history";
  site: string;
  embed: boolean;
  theme: string | null;
  period: Period;
  metric: Metric;
  filters: Filter[];
  /** Whom the live page is about: at most one of its names has a value. */
  live: LiveFilter;
}

/** What history calls the live filters. */
export const dimensions: Record<keyof LiveFilter, string> = {
  page: "event:page",
  source: "visit:source",
  country: "visit:country",
  device: "visit:device",
};
const kinds = Object.keys(dimensions) as (keyof LiveFilter)[];

const presetNames: Preset[] = ["today", "24h", "7d", "30d", "month", "year", "custom"];
const metricNames: Metric[] = [
  "visitors",
  "visits",
  "pageviews",
  "views_per_visit",
  "bounce_rate",
  "visit_duration",
];
const date = /^\d{4}-\d{2}-\d{2}$/;

export function parse(path: string, search: string): Route {
  const [site = "", sub = ""] = path.split("/").filter(Boolean).map(decodeURIComponent);
  const q = new URLSearchParams(search);
  const from = q.get("from") ?? "";
  const to = q.get("to") ?? "";
  let preset = (q.get("period") ?? "today") as Preset;
  if (!presetNames.includes(preset)) preset = "today";
  if (preset === "custom" && !(date.test(from) && date.test(to) && from <= to)) preset = "today";
  const wanted = q.get("metric") as Metric;
  return {
    page: !site ? "sites" : sub === "history" ? "history" : "live",
    site,
    embed: q.get("embed") === "1",
    theme: q.get("theme"),
    period: {
      preset,
      offset: Math.min(0, Number.parseInt(q.get("offset") ?? "0", 10) || 0),
      ...(preset === "custom" ? { from, to } : {}),
    },
    metric: metricNames.includes(wanted) ? wanted : "visitors",
    filters: q.getAll("f").flatMap((f) => {
      const i = f.indexOf("~");
      return i > 0 ? [{ dimension: f.slice(0, i), value: f.slice(i + 1) }] : [];
    }),
    live: liveFilter(q),
  };
}

function liveFilter(q: URLSearchParams): LiveFilter {
  const kind = kinds.find((k) => q.get(k));
  return kind ? { [kind]: q.get(kind) } : {};
}

/** The filters of history that show the same people as the page that is shown. */
export function historyFilters({ page, filters, live }: Route): Filter[] {
  if (page === "history") return filters;
  return Object.entries(live).map(([kind, value]) => ({
    dimension: dimensions[kind as keyof LiveFilter],
    value,
  }));
}

export function href(r: Partial<Route> & Pick<Route, "page">): string {
  if (r.page === "sites") return "/";
  const q = new URLSearchParams();
  if (r.page === "history") {
    const p = r.period ?? { preset: "today", offset: 0 };
    if (p.preset !== "today") q.set("period", p.preset);
    if (p.offset) q.set("offset", String(p.offset));
    if (p.preset === "custom" && p.from && p.to) {
      q.set("from", p.from);
      q.set("to", p.to);
    }
    if (r.metric && r.metric !== "visitors") q.set("metric", r.metric);
  } else for (const [kind, value] of Object.entries(r.live ?? {})) q.set(kind, value);
  for (const f of r.filters ?? []) q.append("f", `${f.dimension}~${f.value}`);
  const search = q.toString();
  return `/${encodeURIComponent(r.site ?? "").replaceAll("%3A", ":")}${r.page === "history" ? "/history" : ""}${search ? `?${search}` : ""}`;
}

const moved = new EventTarget();

export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  moved.dispatchEvent(new Event("moved"));
  if (!replace) window.scrollTo(0, 0);
}

function subscribe(f: () => void): () => void {
  moved.addEventListener("moved", f);
  window.addEventListener("popstate", f);
  return () => {
    moved.removeEventListener("moved", f);
    window.removeEventListener("popstate", f);
  };
}

export function useRoute(): Route {
  const at = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const [path = "/", search = ""] = at.split(/(?=\?)/, 2);
  return parse(path, search);
}
