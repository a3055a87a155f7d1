import { type Loaded, query, useLoad } from "../../api";

const REFRESH_INTERVAL = 30_000; // ms

/** When a site had its last event: "never", or as in "on 2026-11-23 at 14:03". It loads while `quiet`. */
export function useLastVisit(site: string, quiet: boolean): Loaded<string> {
  const key = quiet ? `last visit ${site}` : null;
  return useLoad(key, (signal) => lastVisit(site, signal), quiet ? REFRESH_INTERVAL : 0);
}

async function lastVisit(site: string, signal: AbortSignal): Promise<string> {
  const newestBucket = async (dateRange: string | string[], grain: string) => {
    const { results } = await query(
      {
        site_id: site,
        metrics: ["events"],
        date_range: dateRange,
        dimensions: [grain],
        order_by: [[grain, "desc"]],
        pagination: { limit: 1, offset: 0 },
      },
      signal,
    );
    return results[0]?.dimensions[0];
  };
  const day = (await newestBucket("all", "time:day"))?.slice(0, 10);
  if (!day) return "never";
  const minute = await newestBucket([day, day], "time:minute").catch(() => undefined);
  return minute ? `on ${minute.slice(0, 10)} at ${minute.slice(11, 16)}` : `on ${day}`;
}
