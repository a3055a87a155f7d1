import { useState } from "react";
import { call, query, type Site, useLoad } from "../api";
import { DIRECT, exact, short } from "../format";
import type { Filter, Now } from "../live/model";
import type { Live } from "../live/stream";
import { href, type Route } from "../route";
import { BarList, type Row } from "../ui/bar-list";
import { Code, Country, Link, Notice } from "../ui/bits";
import { LiveChart } from "../ui/live-chart";
import { FilteredHeadline, Headline } from "./live-filter";

export function snippet(site: string): string {
  return `<script defer data-domain="${site}" src="${location.origin}/js/script.js"></script>`;
}

interface Props {
  route: Route;
  site: Site | null;
  live: Live;
  theme: string;
}

type ListName = "pages" | "sources" | "countries" | "devices";

const lists: { id: ListName; kind: keyof Filter; name: string; empty: string }[] = [
  { id: "pages", kind: "page", name: "Pages", empty: "Nobody is on a page now." },
  { id: "sources", kind: "source", name: "Sources", empty: "Nobody came from elsewhere." },
  { id: "countries", kind: "country", name: "Countries", empty: "No country is known." },
  { id: "devices", kind: "device", name: "Devices", empty: "No device is known." },
];

export function LivePage({ route, site, live, theme }: Props) {
  const { model, connection } = live;
  const timezone = site?.timezone ?? "UTC";
  const dimmed = connection.state !== "live" && connection.state !== "connecting";
  const quiet = model.visitors === 0 && model.seconds.size === 0;
  const past = useLastSeen(route.site, quiet);
  if (connection.state === "refused" && [401, 403, 404].includes(connection.status))
    return <Refusal status={connection.status} site={route.site} />;
  if (quiet && past.data === "never") return <Waiting site={route.site} />;
  const open = model.newestSecond;
  const filtered = Object.keys(route.live).length > 0;
  return (
    <div className="flex flex-col gap-4">
      <section
        aria-label="People here now"
        className="card grid gap-x-6 gap-y-4 p-4 sm:p-6 md:grid-cols-[260px_minmax(0,1fr)]"
      >
        <div
          className={`flex flex-col justify-center transition-opacity duration-150 ${dimmed ? "opacity-50" : ""}`}
        >
          <h1 className="sr-only">{route.site}, live</h1>
          {filtered ? <FilteredHeadline route={route} all={model.visitors} /> : <Headline model={model} />}
          <Announcement visitors={model.visitors} />
          <p className="mt-2 min-h-5 text-soft">
            {quiet && past.data && past.data !== "never"
              ? `The last one was here ${past.data}.`
              : open
                ? `${short(open.pageviews)} ${open.pageviews === 1 ? "view" : "views"} this second · ${short(open.visitors)} ${open.visitors === 1 ? "person" : "people"}`
                : ""}
          </p>
        </div>
        <div className="min-w-0">
          <div className="mb-1 flex flex-wrap items-baseline justify-between gap-2 text-xs text-soft">
            <span>Page views of the last 5 minutes, a bar a second</span>
            <span className="flex items-center gap-3">
              <Key hatched={false} name="final" />
              <Key hatched name="provisional" />
            </span>
          </div>
          <LiveChart model={model} timezone={timezone} dimmed={dimmed} theme={theme} />
        </div>
      </section>
      {!route.embed && <Lists route={route} now={model.now} dimmed={dimmed} />}
      {!route.embed && (
        <p className="text-xs text-soft">
          Here now: a page view or event in the last 5 minutes. Times are in {timezone.replaceAll("_", " ")}.
        </p>
      )}
    </div>
  );
}

function Key({ hatched, name }: { hatched: boolean; name: string }) {
  return (
    <span className="flex items-center gap-1.5">
      <svg aria-hidden="true" width="10" height="10" className="text-accent">
        {hatched ? (
          <>
            <rect x="0.5" y="0.5" width="9" height="9" fill="none" stroke="currentColor" />
            <path d="M0 10 10 0M-3 6 3 0M7 10 13 4" stroke="currentColor" />
          </>
        ) : (
          <rect width="10" height="10" fill="currentColor" />
        )}
      </svg>
      {name}
    </span>
  );
}

/** Says the number to a screen reader at most every ten seconds. */
function Announcement({ visitors }: { visitors: number | null }) {
  const [said, setSaid] = useState<{ text: string; at: number }>({ text: "", at: Number.NEGATIVE_INFINITY });
  const text = visitors === null ? "" : `${exact(visitors)} people here now`;
  const now = performance.now();
  if (text !== said.text && now - said.at > 10_000) setSaid({ text, at: now });
  return (
    <span aria-live="polite" className="sr-only">
      {said.text}
    </span>
  );
}

function Lists({ route, now, dimmed }: { route: Route; now: Now | null; dimmed: boolean }) {
  const [tab, setTab] = useState<ListName>("pages");
  return (
    <>
      <div role="tablist" aria-label="Lists" className="flex gap-1 overflow-x-auto md:hidden">
        {lists.map((l) => (
          <button
            key={l.id}
            type="button"
            role="tab"
            aria-selected={tab === l.id}
            onClick={() => setTab(l.id)}
            className={`target rounded-md px-3 py-1.5 font-medium ${tab === l.id ? "bg-raised text-ink" : "quiet"}`}
          >
            {l.name}
          </button>
        ))}
      </div>
      <div
        className={`grid gap-4 transition-opacity duration-150 md:grid-cols-2 lg:grid-cols-4 ${dimmed ? "opacity-50" : ""}`}
      >
        {lists.map((l) => (
          <section
            key={l.id}
            aria-label={`${l.name} now`}
            className={`card min-h-64 p-4 ${tab === l.id ? "" : "max-md:hidden"}`}
          >
            <h2 className="mb-3 flex justify-between px-2 font-semibold">
              {l.name} <span className="font-normal text-soft">now</span>
            </h2>
            {now ? (
              <List route={route} now={now} of={l} />
            ) : (
              <div className="flex flex-col gap-2 px-2">
                {[80, 60, 40].map((w) => (
                  <div key={w} className="skeleton h-6" style={{ width: `${w}%` }} />
                ))}
              </div>
            )}
          </section>
        ))}
      </div>
    </>
  );
}

/** What a value of a list is called in filters: "" has no name but where it is who came directly. */
const named = ({ id }: (typeof lists)[number], value: string) => value || (id === "sources" ? DIRECT : "");

/** A click on a value shows who is there; another takes that back. */
function link({ site, live }: Route, kind: keyof Route["live"], value: string): string | undefined {
  if (value) return href({ page: "live", site, live: live[kind] === value ? {} : { [kind]: value } });
}

function List({ route, now, of }: { route: Route; now: Now; of: (typeof lists)[number] }) {
  const values = now[of.id] as [string, number][];
  const rest = now.rest[of.id];
  const rows: Row[] = values.map(([value, n]) => ({
    key: value || "-",
    value: n,
    label:
      of.id === "countries" ? (
        <Country code={value} />
      ) : (
        value || (of.id === "sources" ? "Direct" : "Unknown")
      ),
    title: value,
    href: link(route, of.kind, named(of, value)),
    current: route.live[of.kind] === named(of, value),
  }));
  return (
    <>
      <BarList
        live
        rows={rows}
        total={values.reduce((n, v) => n + v[1], rest)}
        empty={of.empty}
        testId={`now-${of.id}`}
      />
      {rest > 0 && <p className="mt-2 px-2 text-xs text-soft">and {short(rest)} elsewhere</p>}
    </>
  );
}

/** When a site that is quiet now had its last visitor: "never", or in words. */
function useLastSeen(site: string, quiet: boolean) {
  return useLoad<string>(
    quiet ? `last ${site}` : null,
    async (signal) => {
      const ask = async (range: string | string[], grain: string) => {
        const r = await query(
          {
            site_id: site,
            metrics: ["events"],
            date_range: range,
            dimensions: [grain],
            order_by: [[grain, "desc"]],
            pagination: { limit: 1, offset: 0 },
          } as Parameters<typeof query>[0],
          signal,
        );
        return r.results[0]?.dimensions[0];
      };
      const day = await ask("all", "time:day");
      if (!day) return "never";
      const minute = await ask([day.slice(0, 10), day.slice(0, 10)], "time:minute").catch(() => undefined);
      return minute ? `on ${minute.slice(0, 10)} at ${minute.slice(11, 16)}` : `on ${day.slice(0, 10)}`;
    },
    quiet ? 30_000 : 0,
  );
}

function Refusal({ status, site }: { status: number; site: string }) {
  return (
    <div className="card mx-auto mt-12 flex max-w-xl flex-col gap-3 p-6">
      <h1 className="text-lg font-semibold">
        {status === 404 ? `There is no site ${site}` : `${site} isn't public`}
      </h1>
      {status === 404 ? (
        <p>
          Add it on the{" "}
          <Link href="/" className="underline">
            list of sites
          </Link>
          , or with <code className="code px-1 py-0.5">nowcast site add {site}</code>.
        </p>
      ) : (
        <p>
          Open a login link to read it:{" "}
          <code className="code px-1 py-0.5">{location.origin}/login?key=nck_…</code>. On one machine,{" "}
          <code className="code px-1 py-0.5">nowcast all</code> prints one when it starts; elsewhere ask
          whoever runs this for a key.
        </p>
      )}
    </div>
  );
}

/** What a new site shows until its first page view, which turns it into the live page by itself. */
export function Waiting({ site }: { site: string }) {
  const [sent, setSent] = useState<string | null>(null);
  const beacon = `{"name":"pageview","domain":"${site}","url":"https://${site}/"}`;
  const send = () =>
    call("POST", "/api/event", JSON.parse(beacon)).then(
      () => setSent("Sent. It shows here in a moment."),
      // The answer is the word ok, which is no JSON: what matters is the page turning live.
      (e: Error) => setSent(e.message),
    );
  return (
    <div className="card mx-auto mt-4 flex max-w-3xl flex-col gap-6 p-4 sm:mt-10 sm:p-8">
      <div>
        <h1 className="text-lg font-semibold">Waiting for the first page view…</h1>
        <p className="mt-1 text-soft">
          This page turns into the live dashboard of {site} by itself as soon as one arrives.
        </p>
      </div>
      <Code label="1. Put this into the head of every page" text={snippet(site)} />
      <Code
        label="2. Or try it from a terminal"
        text={`curl -H 'User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0' \\\n  -d '${beacon}' ${location.origin}/api/event`}
      />
      <div className="flex flex-wrap items-center gap-3">
        <button type="button" className="button button-primary" onClick={send}>
          Send a page view from here
        </button>
        {sent && <span className="text-soft">{sent}</span>}
      </div>
      {site === "localhost" && (
        <Notice>
          Any page that you serve from localhost counts here: this site was made so that you can try at once.
        </Notice>
      )}
    </div>
  );
}
