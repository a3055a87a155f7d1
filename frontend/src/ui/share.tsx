import { type FormEvent, useState } from "react";
import { errorMessage, request, type ShareLink, type ShareLinkCreated, useGet } from "../api";
import { serverUrl } from "../base";
import { CopyButton } from "./code";
import { Dialog } from "./dialog";
import { Notice } from "./notice";

/** Opens the dialog in which an admin creates and revokes a site's share links. */
export function ShareButton({ site }: { site: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="quiet target px-3 py-1.5 font-medium" onClick={() => setOpen(true)}>
        Share
      </button>
      {open && (
        <Dialog title={`Share ${site}`} onClose={() => setOpen(false)}>
          <ShareLinks site={site} />
        </Dialog>
      )}
    </>
  );
}

function ShareLinks({ site }: { site: string }) {
  const path = `/api/v1/sites/${encodeURIComponent(site)}/links`;
  const [version, setVersion] = useState(0);
  const [name, setName] = useState("");
  const [created, setCreated] = useState<ShareLinkCreated | null>(null);
  const [changeError, setChangeError] = useState("");
  const links = useGet<{ links: ShareLink[] }>(path, version);
  const error = changeError || links.error?.message;
  const change = async (action: () => Promise<void>) => {
    try {
      await action();
      setChangeError("");
      setVersion((v) => v + 1);
    } catch (e) {
      setChangeError(errorMessage(e));
    }
  };
  const create = (e: FormEvent) => {
    e.preventDefault();
    change(async () => {
      setCreated(await request<ShareLinkCreated>("POST", path, { name }));
      setName("");
    });
  };
  const revoke = (link: ShareLink) =>
    change(async () => {
      await request("DELETE", `${path}/${encodeURIComponent(link.id)}`);
      if (created?.id === link.id) setCreated(null);
    });
  return (
    <div className="flex flex-col gap-4">
      <p className="text-soft">
        Anybody with a link sees this site's dashboard, live and history, without a key, until you revoke it.
      </p>
      <form onSubmit={create} className="flex flex-wrap items-end gap-2">
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
      {created && <CreatedLink link={created} />}
      {error && <Notice kind="error">{error}</Notice>}
      <ShareLinkList links={links.data?.links ?? null} onRevoke={revoke} />
    </div>
  );
}

function CreatedLink({ link }: { link: ShareLinkCreated }) {
  const url = serverUrl(link.path);
  return (
    <div className="flex flex-col gap-2" role="status">
      <span className="font-medium">The link for {link.name}. It is shown only now.</span>
      <div className="flex items-center gap-2">
        <input
          className="field min-w-0 flex-1"
          aria-label="The link"
          readOnly
          value={url}
          onFocus={(e) => e.target.select()}
        />
        <CopyButton text={url} label="Copy link" />
      </div>
    </div>
  );
}

interface ShareLinkListProps {
  links: ShareLink[] | null;
  onRevoke: (link: ShareLink) => void;
}

/** The share links; null while they load. */
export function ShareLinkList({ links, onRevoke }: ShareLinkListProps) {
  if (links === null) return <div className="skeleton h-10" />;
  if (links.length === 0) return <p className="text-soft">There is no link yet.</p>;
  return (
    <ul aria-label="Links" className="divide-y divide-line">
      {links.map((link) => (
        <li key={link.id} className="flex min-h-11 items-center gap-3 py-1">
          <span className="min-w-0 flex-1 truncate" title={link.name}>
            {link.name}
          </span>
          <span className="text-xs text-soft">since {link.created.slice(0, 10)}</span>
          <button
            type="button"
            className="button"
            aria-label={`Revoke the link for ${link.name}`}
            onClick={() => onRevoke(link)}
          >
            Revoke
          </button>
        </li>
      ))}
    </ul>
  );
}
