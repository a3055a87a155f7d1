import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Site } from "../api";
import { age, clock } from "../format";
import type { Live } from "../live/stream";
import { historyFilters, href, type Route } from "../route";
import { Link } from "./bits";
import { Share } from "./share";

interface Props {
  route: Route;
  sites: Site[];
  theme: string;
  toggle: () => void;
  help: () => void;
  admin: boolean;
  children?: ReactNode;
}

export function Header({ route, sites, theme, toggle, help, admin, children }: Props) {
  const tab = (page: "live" | "history", name: string) => (
    <Link
      href={href({ page, site: route.site, filters: page === "history" ? historyFilters(route) : [] })}
      aria-current={route.page === page ? "page" : undefined}
      className={`target flex items-center rounded-md px-3 py-1.5 font-medium ${route.page === page ? "bg-raised text-ink" : "quiet"}`}
    >
      {name}
    </Link>
  );
  return (
    <header className="sticky top-0 z-20 border-b border-line bg-card">
      <div className="mx-auto flex min-h-14 max-w-[1280px] flex-wrap items-center gap-x-3 gap-y-1 px-4 py-1.5 sm:px-6">
        <Link href="/" aria-label="All sites" className="flex items-center rounded p-1">
          <Logo />
        </Link>
        {route.site ? (
          <SiteMenu route={route} sites={sites} />
        ) : (
          <span className="font-semibold">Nowcast</span>
        )}
        <div className="min-w-24 flex-1">{children}</div>
        <nav aria-label="Views" className="ml-auto flex items-center gap-1">
          {route.site && (
            <>
              {tab("live", "Live")}
              {tab("history", "History")}
              {admin && <Share key={route.site} site={route.site} />}
            </>
          )}
          <button
            type="button"
            onClick={toggle}
            className="quiet target min-w-8 p-2"
            aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}
          >
            {theme === "dark" ? <Sun /> : <Moon />}
          </button>
          <button
            type="button"
            onClick={help}
            className="quiet target hidden min-w-8 p-2 font-semibold sm:block"
            aria-label="Keyboard help"
          >
            ?
          </button>
        </nav>
      </div>
    </header>
  );
}

function SiteMenu({ route, sites }: { route: Route; sites: Site[] }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (e: Event) => {
      if (e instanceof KeyboardEvent ? e.key === "Escape" : !box.current?.contains(e.target as Node))
        setOpen(false);
    };
    document.addEventListener("mousedown", close);
    document.addEventListener("keydown", close);
    return () => {
      document.removeEventListener("mousedown", close);
      document.removeEventListener("keydown", close);
    };
  }, [open]);
  return (
    <div ref={box} className="relative min-w-0 max-sm:basis-[calc(100%-52px)]">
      <button
        type="button"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className="target flex max-w-full items-center gap-1.5 rounded-md px-2 py-1.5 font-semibold hover:bg-raised sm:max-w-72"
      >
        <span className="truncate">{route.site}</span>
        <svg aria-hidden="true" width="10" height="10" viewBox="0 0 10 10" className="shrink-0 text-soft">
          <path
            d="M2 3.5 5 6.5 8 3.5"
            fill="none"
            stroke="currentColor"
            strokeWidth="1.5"
            strokeLinecap="round"
          />
        </svg>
      </button>
      {open && (
        <ul className="absolute left-0 z-30 mt-1 max-h-80 min-w-56 overflow-auto rounded-lg border border-line bg-card p-1">
          {sites.map((s) => (
            <li key={s.domain}>
              <Link
                href={href({ page: route.page, site: s.domain })}
                onClick={() => setOpen(false)}
                className={`target block truncate rounded px-3 py-1.5 hover:bg-raised ${s.domain === route.site ? "font-semibold" : ""}`}
              >
                {s.domain}
              </Link>
            </li>
          ))}
          <li className="mt-1 border-t border-line pt-1">
            <Link
              href="/"
              onClick={() => setOpen(false)}
              className="target block rounded px-3 py-1.5 text-soft hover:bg-raised"
            >
              All sites
            </Link>
          </li>
        </ul>
      )}
    </div>
  );
}

const refusal = (status: number) =>
  status === 404 ? "no such site" : status === 401 || status === 403 ? "no access" : "not accepted";

/** A dot and words: never green over old numbers, and never by colour alone. */
export function ConnectionState({
  live,
  timezone,
  again,
}: {
  live: Live;
  timezone: string;
  again: () => void;
}) {
  const [, tick] = useState(0);
  const news = useRef({ timestamp: 0, at: 0 });
  useEffect(() => {
    const t = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(t);
  }, []);
  const { connection: c, model, delay } = live;
  if (news.current.timestamp !== model.timestamp)
    news.current = { timestamp: model.timestamp, at: performance.now() };
  // The newest numbers' age: how old they usually are when they arrive, and the time since. No clocks are compared but this machine's own.
  const old = (delay?.p50 ?? 0) + performance.now() - news.current.at;
  const lag = delay
    ? `Numbers reach this page ${age(delay.p50)} (median) to ${age(delay.p99)} (99%) after the fact.`
    : "Measuring how fresh the numbers are.";
  const title = `${lag} Frames left out because this browser was slow: ${model.skipped}.`;
  const left = "retryAt" in c ? c.retryAt - performance.now() : 0;
  const soon = left > 500 ? ` in ${Math.ceil(left / 1000)} s` : "…";
  const [color, words] =
    c.state === "live"
      ? ["text-good", `live · ${age(old)}`]
      : c.state === "reconnecting"
        ? ["text-warn", `reconnecting${soon}`]
        : c.state === "busy"
          ? ["text-warn", `busy, trying again${soon}`]
          : c.state === "stale"
            ? [
                "text-soft",
                model.timestamp ? `stale since ${clock(c.since, timezone)}` : "waiting for the log",
              ]
            : c.state === "refused"
              ? ["text-bad", refusal(c.status)]
              : ["text-soft", "connecting…"];
  return (
    <div
      data-testid="connection"
      data-state={c.state}
      title={title}
      className="flex items-center gap-2 text-sm whitespace-nowrap"
    >
      <svg aria-hidden="true" width="10" height="10" className={`shrink-0 ${color}`}>
        {c.state === "live" ? (
          <circle cx="5" cy="5" r="5" fill="currentColor" />
        ) : (
          <circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" strokeWidth="2" />
        )}
      </svg>
      <span className={c.state === "live" ? "text-soft" : color}>{words}</span>
      {(c.state === "reconnecting" || c.state === "refused") && (
        <button type="button" className="underline" onClick={again}>
          Try now
        </button>
      )}
    </div>
  );
}

function Logo() {
  return (
    <svg aria-hidden="true" width="24" height="24" viewBox="0 0 32 32" className="text-accent">
      <rect width="32" height="32" rx="7" fill="currentColor" />
      <path
        d="M7 21v-4M12 21v-8M17 21V9"
        stroke="var(--on-accent)"
        strokeWidth="3"
        strokeLinecap="round"
        fill="none"
      />
      <circle cx="24" cy="11" r="3" fill="var(--on-accent)" />
    </svg>
  );
}

function Moon() {
  return (
    <svg
      aria-hidden="true"
      width="16"
      height="16"
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
    >
      <path d="M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z" strokeLinejoin="round" />
    </svg>
  );
}

function Sun() {
  return (
    <svg
      aria-hidden="true"
      width="16"
      height="16"
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
      strokeLinecap="round"
    >
      <circle cx="8" cy="8" r="3" />
      <path d="M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" />
    </svg>
  );
}
