import { useEffect, useRef, useState } from "react";
import { formatAge, formatTime } from "../format";
import type { Connection, Live } from "../live/stream";

interface Props {
  live: Live;
  timezone: string;
  /** Left out: there is no button for it. */
  retryNow?: () => void;
}

/**
 * The state of the connection as a dot and words. Old numbers are never green, and colour is never the only
 * sign.
 */
export function ConnectionState({ live, timezone, retryNow }: Props) {
  useRerender(500);
  const { connection, model, delay } = live;
  const latest = useRef({ timestamp: 0, arrivedAt: 0 });
  if (latest.current.timestamp !== model.timestamp)
    latest.current = { timestamp: model.timestamp, arrivedAt: performance.now() };
  // Age of the newest numbers: their usual age on arrival plus the time since, by this machine's clock alone.
  const dataAge = (delay?.p50 ?? 0) + performance.now() - latest.current.arrivedAt;
  const isLive = connection.state === "live";
  const [color, words] = describe(connection, dataAge, model.timestamp > 0, timezone);
  return (
    <div
      data-testid="connection"
      data-state={connection.state}
      title={`${describeDelay(delay)} Frames left out because this browser was slow: ${model.skipped}.`}
      className="flex items-center gap-2 text-sm whitespace-nowrap"
    >
      <svg aria-hidden="true" width="10" height="10" className={`shrink-0 ${color}`}>
        {isLive ? (
          <circle cx="5" cy="5" r="5" fill="currentColor" />
        ) : (
          <circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" strokeWidth="2" />
        )}
      </svg>
      <span className={isLive ? "text-soft" : color}>{words}</span>
      {retryNow && (connection.state === "reconnecting" || connection.state === "refused") && (
        <button type="button" className="underline" onClick={retryNow}>
          Try now
        </button>
      )}
    </div>
  );
}

function useRerender(intervalMs: number): void {
  const [, setCount] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setCount((n) => n + 1), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
}

/** The colour and the words of a state. */
function describe(c: Connection, dataAge: number, hasData: boolean, timezone: string): [string, string] {
  switch (c.state) {
    case "connecting":
      return ["text-soft", "connecting…"];
    case "live":
      return ["text-good", `live · ${formatAge(dataAge)}`];
    case "reconnecting":
      return ["text-warn", `reconnecting${countdown(c.retryAt)}`];
    case "busy":
      return ["text-warn", `busy, trying again${countdown(c.retryAt)}`];
    case "stale":
      return ["text-soft", hasData ? `stale since ${formatTime(c.since, timezone)}` : "waiting for data"];
    case "refused":
      return ["text-bad", describeRefusal(c.status)];
  }
}

function countdown(retryAt: number): string {
  const remaining = retryAt - performance.now();
  return remaining > 500 ? ` in ${Math.ceil(remaining / 1000)} s` : "…";
}

function describeRefusal(status: number): string {
  if (status === 404) return "no such site";
  return status === 401 || status === 403 ? "no access" : "not accepted";
}

function describeDelay(delay: Live["delay"]): string {
  if (!delay) return "Measuring how fresh the numbers are.";
  const [p50, p99] = [formatAge(delay.p50), formatAge(delay.p99)];
  return `Numbers reach this page ${p50} (median) to ${p99} (99%) after the fact.`;
}
