const integer = new Intl.NumberFormat("en");

/** Formats a count as 1,284 up to 9,999, then as 12.8k, 3.4M, 2B. */
export function formatShort(n: number): string {
  const withUnit = (x: number, unit: string) => `${x >= 100 ? Math.round(x) : Number(x.toFixed(1))}${unit}`;
  if (Math.abs(n) < 10_000) return integer.format(Math.round(n));
  if (Math.abs(n) < 999_500) return withUnit(n / 1e3, "k");
  if (Math.abs(n) < 999_500_000) return withUnit(n / 1e6, "M");
  return withUnit(n / 1e9, "B");
}

export const formatExact = (n: number): string => integer.format(n);

/** Formats an age in ms as 0.3 s, 12 s, 4 min, 2 h, 2 d. */
export function formatAge(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 86_400 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

/** Formats a duration in seconds as 45s, 3m 05s, 1h 12m. */
export function formatDuration(seconds: number): string {
  const n = Math.round(seconds);
  const twoDigits = (x: number) => String(x).padStart(2, "0");
  if (n < 60) return `${n}s`;
  if (n < 3600) return `${Math.floor(n / 60)}m ${twoDigits(n % 60)}s`;
  return `${Math.floor(n / 3600)}h ${twoDigits(Math.floor((n % 3600) / 60))}m`;
}

/** Formats the time of day of a moment in ms: 14:03:05. */
export const formatTime = (ms: number, timeZone?: string): string =>
  new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    timeZone,
  }).format(ms);

export const formatTimeZone = (timeZone: string): string => timeZone.replaceAll("_", " ");

export const isCountryCode = (code: string): boolean => /^[A-Z]{2}$/.test(code);

const regionNames = new Intl.DisplayNames(["en"], { type: "region" });

/** The English name of a country by its ISO 3166-1 code. An unknown code is its own name. */
export function countryName(code: string): string {
  if (!isCountryCode(code)) return code || "Unknown";
  try {
    return regionNames.of(code) ?? code;
  } catch {
    return code;
  }
}

/** The source of visits without a referrer, as the API names it. */
export const DIRECT = "Direct / None";
