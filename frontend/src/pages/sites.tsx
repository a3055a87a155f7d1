import { type FormEvent, useEffect, useState } from "react";
import { call, Refused, type Session, type Site } from "../api";
import { exact, short } from "../format";
import { useLiveSites } from "../live/use-live";
import { go, href } from "../route";
import { Link, Notice } from "../ui/bits";

interface Props {
  sites: Site[] | null;
  session: Session | null;
  reload: () => void;
}

export function SitesPage({ sites, session, reload }: Props) {
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
      {adding && <AddSite reload={reload} cancel={() => setAdding(false)} />}
      <ul className="card min-h-14 divide-y divide-line overflow-hidden">
        {walls(sites ?? []).map((wall, i) =>
          i < LIVE ? (
            <LiveRows key={wall[0]?.domain} sites={wall} reload={reload} />
          ) : (
            wall.map((s) => <Row key={s.domain} site={s} />)
          ),
        )}
        {sites?.length === 0 && (
          <li className="p-4 text-soft">
            {session?.admin
              ? "There is no site yet. Add the first one."
              : "There is no public site. Open a login link to see yours."}
          </li>
        )}
      </ul>
      {session && !session.authenticated && (
        <Notice>
          You see public sites and those of share links only. To see all and to add some, open the login link:{" "}
          <code>nowcast all</code> prints it when it starts, and{" "}
          <code>{location.origin}/login?key=nck_…</code> works with any key.
        </Notice>
      )}
    </div>
  );
}

const WALL = 50; // sites of one stream
const LIVE = 4; // streams: browsers allow six connections to a host, and the page needs some for itself

function walls(sites: Site[]): Site[][] {
  return Array.from({ length: Math.ceil(sites.length / WALL) }, (_, i) =>
    sites.slice(i * WALL, (i + 1) * WALL),
  );
}

function LiveRows({ sites, reload }: { sites: Site[]; reload: () => void }) {
  const { models, connection } = useLiveSites(sites.map((s) => s.domain));
  const refused = connection.state === "refused"; // one of the sites is gone, or isn't for this viewer any more
  // biome-ignore lint/correctness/useExhaustiveDependencies: reload is another function each time
  useEffect(() => {
    if (refused) reload();
  }, [refused]);
  const old = connection.state !== "live" && connection.state !== "connecting";
  return sites.map((s) => (
    <Row key={s.domain} site={s} here={models.get(s.domain)?.visitors ?? null} old={old} />
  ));
}

function Row({ site, here = null, old = false }: { site: Site; here?: number | null; old?: boolean }) {
  return (
    <li>
      <Link
        href={href({ page: "live", site: site.domain })}
        className="target flex min-h-14 items-center gap-4 px-4 hover:bg-raised"
      >
        <span className="min-w-0 flex-1 truncate font-medium">{site.domain}</span>
        {site.public && <span className="rounded border border-line px-1.5 text-xs text-soft">public</span>}
        <span
          className={`min-w-24 text-right text-soft ${old ? "opacity-50" : ""}`}
          title={here === null ? undefined : exact(here)}
        >
          {here === null ? "" : `${short(here)} here now`}
        </span>
      </Link>
    </li>
  );
}

function AddSite({ reload, cancel }: { reload: () => void; cancel: () => void }) {
  const [domain, setDomain] = useState("");
  const [open, setOpen] = useState(false);
  const [error, setError] = useState("");
  const submit = async (e: FormEvent) => {
    e.preventDefault();
    try {
      const site = await call<Site>("POST", "/api/v1/sites", {
        domain,
        public: open,
        timezone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
      });
      reload();
      go(href({ page: "live", site: site.domain }));
    } catch (e) {
      setError(e instanceof Refused ? e.message : String(e));
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
          // biome-ignore lint/a11y/noAutofocus: the form opens because one wants to type here
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
          checked={open}
          onChange={(e) => setOpen(e.target.checked)}
          className="size-4 accent-(--accent)"
        />
        <span>
          Public <span className="text-soft">– anybody with the address can read its numbers</span>
        </span>
      </label>
      {error && <Notice kind="bad">{error}</Notice>}
      <div className="flex gap-2">
        <button type="submit" className="button button-primary">
          Add and show the snippet
        </button>
        <button type="button" className="button" onClick={cancel}>
          Cancel
        </button>
      </div>
    </form>
  );
}
