import { type FormEvent, useState } from "react";
import { call, Refused, type Session, type Site, useLoad } from "../api";
import { exact, short } from "../format";
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
        {sites?.map((s) => (
          <li key={s.domain}>
            <Link
              href={href({ page: "live", site: s.domain })}
              className="target flex min-h-14 items-center gap-4 px-4 hover:bg-raised"
            >
              <span className="min-w-0 flex-1 truncate font-medium">{s.domain}</span>
              {s.public && <span className="rounded border border-line px-1.5 text-xs text-soft">public</span>}
              <Here site={s.domain} />
            </Link>
          </li>
        ))}
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
          <code>nowcast all</code> prints it when it starts, and <code>{location.origin}/login?key=nck_…</code> works
          with any key.
        </Notice>
      )}
    </div>
  );
}

function Here({ site }: { site: string }) {
  const { data } = useLoad(
    `here ${site}`,
    (signal) =>
      call<number>("GET", `/api/v1/stats/realtime/visitors?site_id=${encodeURIComponent(site)}`, undefined, signal),
    5_000,
  );
  return (
    <span className="min-w-24 text-right text-soft" title={data === null ? undefined : exact(data)}>
      {data === null ? "" : `${short(data)} here now`}
    </span>
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
