/** Routes. The address says everything that a page shows, so that a copied link shows the same page. */
import { useSyncExternalStore } from "react";
import { serverPath, withoutBase } from "./base";
import type { Filter as LiveFilter } from "./live/model";
import { type Metric, metrics } from "./metrics";
import { type Period, type Preset, presets } from "./period";

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
  /** Filters of the history page. */
  filters: Filter[];
  /** The filter of the live page: none, or one dimension with its value. */
  liveFilter: LiveFilter;
}

export type LiveDimension = keyof LiveFilter;

/** Names of the live filter's dimensions in queries. */
const queryDimensions: Record<LiveDimension, string> = {
  page: "event:page",
  source: "visit:source",
  country: "visit:country",
  device: "visit:device",
};
const liveDimensions = Object.keys(queryDimensions) as LiveDimension[];

const isPreset = (s: string): s is Preset => s === "custom" || presets.some((p) => p.id === s);
const isMetric = (s: string | null): s is Metric => metrics.some((m) => m.id === s);
const isDate = (s: string) => /^\d{4}-\d{2}-\d{2}$/.test(s);

/** Decodes a segment of a path; one that can't be decoded stays as it is. */
function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/** Parses an address. Every invalid value becomes its default. */
export function parseRoute(path: string, search: string): Route {
  const [site = "", subpage = ""] = withoutBase(path).split("/").filter(Boolean).map(decode);
  const q = new URLSearchParams(search);
  const metric = q.get("metric");
  return {
    page: !site ? "sites" : subpage === "history" ? "history" : "live",
    site,
    embed: q.get("embed") === "1",
    theme: q.get("theme"),
    period: parsePeriod(q),
    metric: isMetric(metric) ? metric : "visitors",
    filters: q.getAll("f").flatMap((f) => {
      const i = f.indexOf("~");
      return i > 0 ? [{ dimension: f.slice(0, i), value: f.slice(i + 1) }] : [];
    }),
    liveFilter: parseLiveFilter(q),
  };
}

function parsePeriod(q: URLSearchParams): Period {
  const preset = q.get("period") ?? "today";
  const from = q.get("from") ?? "";
  const to = q.get("to") ?? "";
  const offset = Math.min(0, Number.parseInt(q.get("offset") ?? "0", 10) || 0);
  if (preset === "custom" && isDate(from) && isDate(to) && from <= to) return { preset, offset, from, to };
  return { preset: isPreset(preset) && preset !== "custom" ? preset : "today", offset };
}

function parseLiveFilter(q: URLSearchParams): LiveFilter {
  const dimension = liveDimensions.find((d) => q.get(d));
  return dimension ? { [dimension]: q.get(dimension) } : {};
}

/** The filters of the history page for the visitors that the route's page counts. */
export function historyFilters({ page, filters, liveFilter }: Route): Filter[] {
  if (page === "history") return filters;
  return Object.entries(liveFilter).map(([dimension, value]) => ({
    dimension: queryDimensions[dimension as LiveDimension],
    value,
  }));
}

/** The address of a route: the inverse of parseRoute. Defaults are left out. */
export function href(r: Partial<Route> & Pick<Route, "page">): string {
  if (r.page === "sites") return serverPath("/");
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
  } else for (const [dimension, value] of Object.entries(r.liveFilter ?? {})) q.set(dimension, value);
  for (const f of r.filters ?? []) q.append("f", `${f.dimension}~${f.value}`);
  const site = encodeURIComponent(r.site ?? "").replaceAll("%3A", ":");
  const search = q.toString();
  return serverPath(`/${site}${r.page === "history" ? "/history" : ""}${search ? `?${search}` : ""}`);
}

const navigation = new EventTarget();

/** Shows an address of the dashboard without loading a page. */
export function navigate(to: string): void {
  if (to === location.pathname + location.search) return;
  history.pushState(null, "", to);
  navigation.dispatchEvent(new Event("navigate"));
  window.scrollTo(0, 0);
}

function subscribe(onNavigate: () => void): () => void {
  navigation.addEventListener("navigate", onNavigate);
  window.addEventListener("popstate", onNavigate);
  return () => {
    navigation.removeEventListener("navigate", onNavigate);
    window.removeEventListener("popstate", onNavigate);
  };
}

export function useRoute(): Route {
  const address = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const [path = "/", search = ""] = address.split(/(?=\?)/, 2);
  return parseRoute(path, search);
}
