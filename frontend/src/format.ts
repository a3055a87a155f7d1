const whole = new Intl.NumberFormat("en");

/** 1,284 up to 9,999, then 12.8k, 3.4M. The exact number belongs in a tooltip. */
export function short(n: number): string {
  const unit = (x: number, u: string) => `${x >= 100 ? Math.round(x) : Number(x.toFixed(1))}${u}`;
  if (Math.abs(n) < 10_000) return whole.format(Math.round(n));
  if (Math.abs(n) < 999_500) return unit(n / 1e3, "k");
  if (Math.abs(n) < 999_500_000) return unit(n / 1e6, "M");
  return unit(n / 1e9, "B");
}

export const exact = (n: number): string => whole.format(n);

/** 0.3 s, 12 s, 4 min, 2 h. */
export function age(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 86_400 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

/** Seconds as 45s, 3m 05s, 1h 12m. */
export function duration(s: number): string {
  const n = Math.round(s);
  const two = (x: number) => String(x).padStart(2, "0");
  if (n < 60) return `${n}s`;
  if (n < 3600) return `${Math.floor(n / 60)}m ${two(n % 60)}s`;
  return `${Math.floor(n / 3600)}h ${two(Math.floor((n % 3600) / 60))}m`;
}

export const clock = (ms: number, timeZone?: string): string =>
  new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    timeZone,
  }).format(ms);

const regions = new Intl.DisplayNames(["en"], { type: "region" });

/** A country's name by its ISO code. */
export function country(code: string): string {
  if (!/^[A-Z]{2}$/.test(code)) return code || "Unknown";
  try {
    return regions.of(code) ?? code;
  } catch {
    return code;
  }
}

/** How history names those who came from nowhere else. */
export const DIRECT = "Direct / None";

export type Metric =
  | "visitors"
  | "visits"
  | "pageviews"
  | "views_per_visit"
  | "bounce_rate"
  | "visit_duration";

export const metrics: { id: Metric; name: string; lower?: boolean }[] = [
  { id: "visitors", name: "People" },
  { id: "visits", name: "Visits" },
  { id: "pageviews", name: "Page views" },
  { id: "views_per_visit", name: "Views a visit" },
  { id: "bounce_rate", name: "Bounce rate", lower: true },
  { id: "visit_duration", name: "Visit duration" },
];

export function metric(id: Metric, n: number): string {
  if (id === "bounce_rate") return `${Math.round(n)}%`;
  if (id === "visit_duration") return duration(n);
  if (id === "views_per_visit") return n.toFixed(n >= 10 ? 1 : 2).replace(/\.?0+$/, "") || "0";
  return short(n);
}

/** The change against before in percent; null where there is nothing to compare with. */
export function change(now: number, before: number): number | null {
  return before === 0 ? null : Math.round((100 * (now - before)) / before);
}

/** Rows as CSV by RFC 4180; what a spreadsheet would run as a formula is quoted with an apostrophe. */
export function csv(rows: (string | number | null)[][]): string {
  const cell = (x: string | number | null) => {
    let s = x === null ? "" : String(x);
    if (typeof x === "string" && /^[=+\-@\t\r]/.test(s)) s = `'${s}`;
    return /[",\r\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s;
  };
  return `${rows.map((r) => r.map(cell).join(",")).join("\r\n")}\r\n`;
}

export function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}
