/** Periods of the history page. Dates are of the site's time zone. */

export type Preset = "today" | "24h" | "7d" | "30d" | "month" | "year" | "custom";
export type Grain = "time:hour" | "time:day" | "time:month";

export interface Period {
  preset: Preset;
  /** 0 is the current period, -1 the previous one, and so on. */
  offset: number;
  /** First and last day of a custom period, YYYY-MM-DD. */
  from?: string;
  to?: string;
}

/** A period at a moment: the dates that it covers, and the buckets of its chart. */
export interface DateRange {
  /** The query's `date_range`: two dates or two times. */
  bounds: [string, string];
  /** The time dimension of the buckets. */
  grain: Grain;
  /** Every bucket of the range, future ones included, named as in the API's response. */
  buckets: string[];
  label: string;
  /** The bucket that contains the present moment; null if the range doesn't. */
  partialBucket: string | null;
}

/** The presets, each with the key that selects it. */
export const presets: { id: Preset; name: string; key: string }[] = [
  { id: "today", name: "Today", key: "t" },
  { id: "24h", name: "Last 24 hours", key: "d" },
  { id: "7d", name: "Last 7 days", key: "7" },
  { id: "30d", name: "Last 30 days", key: "3" },
  { id: "month", name: "Month", key: "m" },
  { id: "year", name: "Year", key: "y" },
];

/** All offsets from UTC are multiples of it. */
const QUARTER_MS = 900_000;
const HOUR_MS = 4 * QUARTER_MS;
const DAY_MS = 24 * HOUR_MS;

const isoDate = (ms: number) => new Date(ms).toISOString().slice(0, 10);
const parseDate = (date: string) => Date.parse(`${date}T00:00:00Z`);
const addDays = (date: string, n: number) => isoDate(parseDate(date) + n * DAY_MS);
const countDays = (from: string, to: string) => Math.round((parseDate(to) - parseDate(from)) / DAY_MS) + 1;

function addMonths(date: string, n: number): string {
  const d = new Date(parseDate(date));
  return isoDate(Date.UTC(d.getUTCFullYear(), d.getUTCMonth() + n, 1));
}

/** Formats instants as local time of a zone in the API's format: 2026-11-23 14:00:00. */
function localFormat(timeZone: string): (ms: number) => string {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "medium" });
  return (ms) => format.format(ms).replace("T", " ");
}

const startOfHour = (local: string) => `${local.slice(0, 13)}:00:00`;

const formatDate = (date: string, options: Intl.DateTimeFormatOptions) =>
  new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }).format(parseDate(date));

const dayAndMonth: Intl.DateTimeFormatOptions = { day: "numeric", month: "short" };
const fullDate: Intl.DateTimeFormatOptions = { ...dayAndMonth, year: "numeric" };
const formatDates = (from: string, to: string) =>
  `${formatDate(from, dayAndMonth)} – ${formatDate(to, fullDate)}`;

function daysOf(from: string, to: string): string[] {
  return Array.from({ length: Math.max(0, countDays(from, to)) }, (_, i) => addDays(from, i));
}

/**
 * The hours of local time from one instant to another, as the API has them: an hour that occurs twice when
 * clocks go back is one bucket, and an hour that is skipped has none.
 */
function hoursBetween(from: number, to: number, local: (ms: number) => string): string[] {
  const hours = new Set<string>();
  for (let t = from - (from % QUARTER_MS); t < to; t += QUARTER_MS) hours.add(startOfHour(local(t)));
  return [...hours].sort();
}

/** The hours of a date. Everywhere a date begins and ends at most 15 hours from UTC's. */
function hoursOf(date: string, local: (ms: number) => string): string[] {
  const utc = parseDate(date);
  const hours = hoursBetween(utc - 15 * HOUR_MS, utc + DAY_MS + 15 * HOUR_MS, local);
  return hours.filter((hour) => hour.startsWith(date));
}

/** Resolves a period at a moment (ms since the epoch) in a time zone. */
export function resolvePeriod(p: Period, now: number, timeZone: string): DateRange {
  const local = localFormat(timeZone);
  const nowLocal = local(now);
  const today = nowLocal.slice(0, 10);
  const thisMonth = `${today.slice(0, 7)}-01`;
  const range = (from: string, to: string, label: string) => rangeOfDays(from, to, label, nowLocal, local);
  switch (p.preset) {
    case "today": {
      const d = addDays(today, p.offset);
      const label = p.offset === -1 ? "Yesterday" : formatDate(d, { weekday: "short", ...fullDate });
      return range(d, d, p.offset === 0 ? "Today" : label);
    }
    case "24h":
      return last24Hours(p.offset, now, local);
    case "7d":
    case "30d": {
      const n = p.preset === "7d" ? 7 : 30;
      const to = addDays(today, p.offset * n);
      const from = addDays(to, 1 - n);
      return range(from, to, p.offset === 0 ? `Last ${n} days` : formatDates(from, to));
    }
    case "month": {
      const from = addMonths(thisMonth, p.offset);
      const to = addDays(addMonths(from, 1), -1);
      return range(from, to, formatDate(from, { month: "long", year: "numeric" }));
    }
    case "year": {
      const year = Number(today.slice(0, 4)) + p.offset;
      return range(`${year}-01-01`, `${year}-12-31`, String(year));
    }
    case "custom": {
      const n = countDays(p.from ?? today, p.to ?? today);
      const from = addDays(p.from ?? today, p.offset * n);
      const to = addDays(p.to ?? today, p.offset * n);
      return range(from, to, from === to ? formatDate(from, fullDate) : formatDates(from, to));
    }
  }
}

/** The range of whole days, with buckets of an hour, a day or a month by its length. */
function rangeOfDays(
  from: string,
  to: string,
  label: string,
  nowLocal: string,
  local: (ms: number) => string,
): DateRange {
  const bounds: [string, string] = [from, to];
  const result = (grain: Grain, buckets: string[], now: string): DateRange => ({
    bounds,
    grain,
    buckets,
    label,
    partialBucket: buckets.includes(now) ? now : null,
  });
  const days = countDays(from, to);
  if (days <= 1) return result("time:hour", hoursOf(from, local), startOfHour(nowLocal));
  if (days <= 100) return result("time:day", daysOf(from, to), nowLocal.slice(0, 10));
  const months = new Set(daysOf(from, to).map((d) => `${d.slice(0, 7)}-01`));
  return result("time:month", [...months], `${nowLocal.slice(0, 7)}-01`);
}

/**
 * The 24 hours that end with the current hour of local time, or a multiple of 24 hours earlier. Where clocks are
 * half an hour off UTC's, that hour begins at half past.
 */
function last24Hours(offset: number, now: number, local: (ms: number) => string): DateRange {
  const [minutes = 0, seconds = 0] = local(now).slice(14, 19).split(":").map(Number);
  const startOfCurrent = now - (now % 1_000) - (minutes * 60 + seconds) * 1_000;
  const end = startOfCurrent + HOUR_MS + offset * DAY_MS;
  const buckets = hoursBetween(end - DAY_MS, end, local);
  return {
    // Both bounds are included, by the second.
    bounds: [new Date(end - DAY_MS).toISOString(), new Date(end - 1_000).toISOString()],
    grain: "time:hour",
    buckets,
    label: offset === 0 ? "Last 24 hours" : `24 hours to ${buckets.at(-1)?.slice(0, 16)}`,
    partialBucket: offset === 0 ? (buckets.at(-1) ?? null) : null,
  };
}

/** The period before this one, with the same length. */
export const previousPeriod = (p: Period): Period => ({ ...p, offset: p.offset - 1 });

/** Formats a bucket for an axis. */
export function formatBucket(bucket: string, grain: Grain): string {
  if (grain === "time:hour") return bucket.slice(11, 16);
  const date = bucket.slice(0, 10);
  return formatDate(date, grain === "time:day" ? dayAndMonth : { month: "short" });
}
