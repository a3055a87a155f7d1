import { type FormEvent, useEffect, useState } from "react";
import { errorMessage, request, type Session, type Site } from "../api";
import { serverPath } from "../base";
import { formatExact, formatShort } from "../format";
import { useLiveSites } from "../live/use-live";
import { href, navigate } from "../route";
import { Link } from "../ui/link";
import { Notice } from "../ui/notice";
import { isDimmed } from "./live/headline";

const SITES_PER_STREAM = 50;
const MAX_STREAMS = 4; // a browser allows six HTTP/1.1 connections to a host, and the page needs some itself

interface Props {
  /** Null while the sites load. */
  sites: Site[] | null;
  session: Session | null;
  reloadSites: () => void;
}

export function SitesPage({ sites, session, reloadSites }: Props) {
  const [adding, setAdding] = useState(false);
  return (
    <div className="mx-auto flex w-full max-w-3xl flex-col gap-4">
      <div className="flex min-h-11 items-center justify-between gap-2">
        <h1 className="text-lg font-semibold">Sites</h1>
        {session?.admin && !adding && (
          <button type="button" className="button button-primary" onClick={() => setAdding(true)}>
            Add a site
          </button>
        )}
      </div>
      {adding && <AddSite reloadSites={reloadSites} onCancel={() => setAdding(false)} />}
      <ul className="card min-h-14 divide-y divide-line overflow-hidden">
        {chunks(sites ?? [], SITES_PER_STREAM).map((chunk, i) =>
          i < MAX_STREAMS ? (
            <LiveRows key={chunk[0]?.domain} sites={chunk} reloadSites={reloadSites} />
          ) : (
            chunk.map((site) => <SiteRow key={site.domain} site={site} />)
          ),
        )}
        {sites?.length === 0 && (
          <li className="p-4 text-soft">
            {session?.admin
              ? "There is no site yet. Add the first one."
              : session?.authenticated
                ? "There is no site that your key may read."
                : "There is no listed site. Log in to see yours."}
          </li>
        )}
      </ul>
      {session && !session.authenticated && (
        <Notice>
          You see listed and shared sites only.{" "}
          <a href={serverPath("/login")} className="underline">
            Log in
          </a>{" "}
          to see all and to add some. On the machine that runs Nowcast, <code>nowcast login</code> prints a
          link.
        </Notice>
      )}
    </div>
  );
}

function chunks<T>(items: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}

/** The rows of sites that share a live stream. */
function LiveRows({ sites, reloadSites }: { sites: Site[]; reloadSites: () => void }) {
  const { models, connection } = useLiveSites(sites.map((s) => s.domain));
  // The server refuses the stream as a whole once one of its sites is removed or may not be read any more.
  const isRefused = connection.state === "refused";
  // biome-ignore lint/correctness/useExhaustiveDependencies: reloadSites is a new function in every render
  useEffect(() => {
    if (isRefused) reloadSites();
  }, [isRefused]);
  return sites.map((site) => (
    <SiteRow
      key={site.domain}
      site={site}
      visitors={models.get(site.domain)?.visitors ?? null}
      dimmed={isDimmed(connection)}
    />
  ));
}

interface SiteRowProps {
  site: Site;
  /** Active visitors; null if unknown. */
  visitors?: number | null;
  /** The number is old. */
  dimmed?: boolean;
}

function SiteRow({ site, visitors = null, dimmed = false }: SiteRowProps) {
  return (
    <li>
      <Link
        href={href({ page: "live", site: site.domain })}
        className="target flex min-h-14 items-center gap-4 px-4 hover:bg-raised"
      >
        <span className="min-w-0 flex-1 truncate font-medium">{site.domain}</span>
        {site.public && <span className="rounded border border-line px-1.5 text-xs text-soft">public</span>}
        <span
          className={`min-w-24 text-right text-soft ${dimmed ? "opacity-50" : ""}`}
          title={visitors === null ? undefined : formatExact(visitors)}
        >
          {visitors === null ? "" : `${formatShort(visitors)} here now`}
        </span>
      </Link>
    </li>
  );
}

function AddSite({ reloadSites, onCancel }: { reloadSites: () => void; onCancel: () => void }) {
  const [domain, setDomain] = useState("");
  const [isPublic, setIsPublic] = useState(false);
  const [error, setError] = useState("");
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    try {
      const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
      const body = { domain, public: isPublic, timezone };
      const site = await request<Site>("POST", "/api/v1/sites", body);
      reloadSites();
      navigate(href({ page: "live", site: site.domain }));
    } catch (e) {
      setError(errorMessage(e));
    }
  };
  return (
    <form onSubmit={submit} className="card flex flex-col gap-4 p-4">
      <label className="flex flex-col gap-1.5">
        <span className="font-medium">Domain</span>
        <input
          className="field"
          value={domain}
          onChange={(e) => setDomain(e.target.value)}
          placeholder="example.com"
          // biome-ignore lint/a11y/noAutofocus: the viewer opened the form to type here
          autoFocus
          autoCapitalize="none"
          autoComplete="off"
          spellCheck={false}
          required
        />
      </label>
      <label className="flex items-center gap-2">
        <input
          type="checkbox"
          checked={isPublic}
          onChange={(e) => setIsPublic(e.target.checked)}
          className="size-4 accent-(--accent)"
        />
        <span>
          Public <span className="text-soft">– anybody with the address can read its numbers</span>
        </span>
      </label>
      {error && <Notice kind="error">{error}</Notice>}
      <div className="flex gap-2">
        <button type="submit" className="button button-primary">
          Add and show the snippet
        </button>
        <button type="button" className="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}
