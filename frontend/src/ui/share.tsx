import { type FormEvent, useState } from "react";
import { call, type Link, type LinkCreated, Refused, useLoad } from "../api";
import { Copy, Dialog, Notice } from "./bits";

const path = (site: string) => `/api/v1/sites/${encodeURIComponent(site)}/links`;

/** An admin's control of a site's share links. */
export function Share({ site }: { site: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="quiet target px-3 py-1.5 font-medium" onClick={() => setOpen(true)}>
        Share
      </button>
      {open && (
        <Dialog title={`Share ${site}`} close={() => setOpen(false)}>
          <Links site={site} />
        </Dialog>
      )}
    </>
  );
}

function Links({ site }: { site: string }) {
  const [version, setVersion] = useState(0);
  const [name, setName] = useState("");
  const [made, setMade] = useState<LinkCreated | null>(null);
  const [error, setError] = useState("");
  const links = useLoad(`links ${site} ${version}`, (signal) =>
    call<{ links: Link[] }>("GET", path(site), undefined, signal),
  );
  const attempt = async (what: () => Promise<void>) => {
    try {
      await what();
      setError("");
      setVersion((v) => v + 1);
    } catch (e) {
      setError(e instanceof Refused ? e.message : String(e));
    }
  };
  const add = (e: FormEvent) => {
    e.preventDefault();
    attempt(async () => {
      setMade(await call<LinkCreated>("POST", path(site), { name }));
      setName("");
    });
  };
  const revoke = (l: Link) =>
    attempt(async () => {
      await call("DELETE", `${path(site)}/${encodeURIComponent(l.id)}`);
      if (made?.id === l.id) setMade(null);
    });
  return (
    <div className="flex flex-col gap-4">
      <p className="text-soft">
        Whoever has a link sees this site's dashboard, live and history, without a key, until you revoke the
        link.
      </p>
      <form onSubmit={add} className="flex flex-wrap items-end gap-2">
        <label className="flex min-w-0 flex-1 flex-col gap-1.5">
          <span className="font-medium">Whom is it for?</span>
          <input
            className="field min-w-0"
            value={name}
            onChange={(e) => setName(e.target.value)}
            placeholder="The press office"
            maxLength={100}
            autoComplete="off"
            required
          />
        </label>
        <button type="submit" className="button button-primary min-h-9">
          Make a link
        </button>
      </form>
      {made && (
        <div className="flex flex-col gap-2" role="status">
          <span className="font-medium">The link for {made.name}. It is shown only now.</span>
          <div className="flex items-center gap-2">
            <input
              className="field min-w-0 flex-1"
              aria-label="The link"
              readOnly
              value={location.origin + made.path}
              onFocus={(e) => e.target.select()}
            />
            <Copy text={location.origin + made.path} label="Copy link" />
          </div>
        </div>
      )}
      {(error || links.error) && <Notice kind="bad">{error || links.error?.message}</Notice>}
      <LinkList links={links.data?.links ?? null} revoke={revoke} />
    </div>
  );
}

export function LinkList({ links, revoke }: { links: Link[] | null; revoke: (l: Link) => void }) {
  if (links === null) return <div className="skeleton h-10" />;
  if (links.length === 0) return <p className="text-soft">There is no link yet.</p>;
  return (
    <ul aria-label="Links" className="divide-y divide-line">
      {links.map((l) => (
        <li key={l.id} className="flex min-h-11 items-center gap-3 py-1">
          <span className="min-w-0 flex-1 truncate" title={l.name}>
            {l.name}
          </span>
          <span className="text-xs text-soft">since {l.created.slice(0, 10)}</span>
          <button
            type="button"
            className="button"
            aria-label={`Revoke the link for ${l.name}`}
            onClick={() => revoke(l)}
          >
            Revoke
          </button>
        </li>
      ))}
    </ul>
  );
}
