/** The spans of the history page. Dates are the site's own, so a day is a day where the site is. */

export type Preset = "today" | "24h" | "7d" | "30d" | "month" | "year" | "custom";
export type Grain = "time:hour" | "time:day" | "time:month";

export interface Period {
  preset: Preset;
  /** 0: the running one; -1: the one before, and so on. */
  offset: number;
  /** Of a custom one: first and last day. */
  from?: string;
  to?: string;
}

export interface Span {
  /** What the API is asked: two dates, or two times. */
  range: [string, string];
  grain: Grain;
  /** Every bucket of the span, as the API names them, also those that lie ahead. */
  buckets: string[];
  label: string;
  /** The bucket that is still growing, if the span has it. */
  growing: string | null;
}

export const presets: { id: Preset; name: string; key: string }[] = [
  { id: "today", name: "Today", key: "t" },
  { id: "24h", name: "Last 24 hours", key: "d" },
  { id: "7d", name: "Last 7 days", key: "7" },
  { id: "30d", name: "Last 30 days", key: "3" },
  { id: "month", name: "Month", key: "m" },
  { id: "year", name: "Year", key: "y" },
];

const day = 86_400_000;
const iso = (t: number) => new Date(t).toISOString().slice(0, 10);
const at = (date: string) => Date.parse(`${date}T00:00:00Z`);
const addDays = (date: string, n: number) => iso(at(date) + n * day);
const daysBetween = (from: string, to: string) => Math.round((at(to) - at(from)) / day) + 1;

function addMonths(date: string, n: number): string {
  const d = new Date(at(date));
  return iso(Date.UTC(d.getUTCFullYear(), d.getUTCMonth() + n, 1));
}

/** Local time of a zone as the API writes it: 2026-11-23 14:00:00. */
export function local(ms: number, timeZone: string): string {
  const p = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "medium" }).format(
    ms,
  );
  return p.replace("T", " ");
}

const long = (date: string, options: Intl.DateTimeFormatOptions) =>
  new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }).format(at(date));

function dates(from: string, to: string): string[] {
  return Array.from({ length: Math.max(0, daysBetween(from, to)) }, (_, i) => addDays(from, i));
}

const hours = (date: string) =>
  Array.from({ length: 24 }, (_, h) => `${date} ${String(h).padStart(2, "0")}:00:00`);

/** Resolves a period at a moment. */
export function resolve(p: Period, now: number, timeZone: string): Span {
  const today = local(now, timeZone).slice(0, 10);
  const hour = `${local(now, timeZone).slice(0, 13)}:00:00`;
  const month = `${today.slice(0, 7)}-01`;
  const span = (from: string, to: string, label: string): Span => {
    const n = daysBetween(from, to);
    const grain: Grain = n <= 1 ? "time:hour" : n <= 100 ? "time:day" : "time:month";
    const buckets =
      grain === "time:hour"
        ? hours(from)
        : grain === "time:day"
          ? dates(from, to)
          : [...new Set(dates(from, to).map((d) => `${d.slice(0, 7)}-01`))];
    const current = grain === "time:hour" ? hour : grain === "time:day" ? today : month;
    return { range: [from, to], grain, buckets, label, growing: buckets.includes(current) ? current : null };
  };
  const full: Intl.DateTimeFormatOptions = { day: "numeric", month: "short", year: "numeric" };
  const between = (from: string, to: string) =>
    `${long(from, { day: "numeric", month: "short" })} – ${long(to, full)}`;
  switch (p.preset) {
    case "today": {
      const d = addDays(today, p.offset);
      return span(
        d,
        d,
        p.offset === 0 ? "Today" : p.offset === -1 ? "Yesterday" : long(d, { weekday: "short", ...full }),
      );
    }
    case "24h": {
      const end = Math.ceil(now / 3_600_000) * 3_600_000 + p.offset * day;
      const buckets = Array.from({ length: 24 }, (_, i) =>
        local(end - (24 - i) * 3_600_000, timeZone).slice(0, 13),
      ).map((h) => `${h}:00:00`);
      const range: [string, string] = [new Date(end - day).toISOString(), new Date(end).toISOString()];
      return {
        range,
        grain: "time:hour",
        buckets,
        label: p.offset === 0 ? "Last 24 hours" : `24 hours to ${buckets.at(-1)?.slice(0, 16)}`,
        growing: p.offset === 0 ? (buckets.at(-1) ?? null) : null,
      };
    }
    case "7d":
    case "30d": {
      const n = p.preset === "7d" ? 7 : 30;
      const to = addDays(today, p.offset * n);
      const from = addDays(to, 1 - n);
      return span(from, to, p.offset === 0 ? `Last ${n} days` : between(from, to));
    }
    case "month": {
      const from = addMonths(month, p.offset);
      return span(from, addDays(addMonths(from, 1), -1), long(from, { month: "long", year: "numeric" }));
    }
    case "year": {
      const y = Number(today.slice(0, 4)) + p.offset;
      return span(`${y}-01-01`, `${y}-12-31`, String(y));
    }
    case "custom": {
      const n = daysBetween(p.from ?? today, p.to ?? today);
      const from = addDays(p.from ?? today, p.offset * n);
      const to = addDays(p.to ?? today, p.offset * n);
      return span(from, to, from === to ? long(from, full) : between(from, to));
    }
  }
}

/** The span before this one, as long as it. */
export const before = (p: Period): Period => ({ ...p, offset: p.offset - 1 });

/** Short names of buckets for an axis. */
export function bucketLabel(bucket: string, grain: Grain): string {
  if (grain === "time:hour") return bucket.slice(11, 16);
  const date = bucket.slice(0, 10);
  return grain === "time:day"
    ? long(date, { day: "numeric", month: "short" })
    : long(date, { month: "short" });
}
