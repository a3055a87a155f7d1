import { serverPath } from "../../base";
import { href } from "../../route";
import { Link } from "../../ui/link";

interface Props {
  status: number;
  site: string;
  /** Without anything to click on. */
  embed?: boolean;
}

/** Replaces the live page of an unknown site (404) or one that the viewer may not read (401, 403). */
export function NoAccess({ status, site, embed = false }: Props) {
  const isUnknown = status === 404;
  if (embed)
    return <p className="text-soft">{isUnknown ? "There is no such site." : `${site} isn't public.`}</p>;
  return (
    <div className="card mx-auto mt-12 flex max-w-xl flex-col gap-3 p-6">
      <h1 className="text-lg font-semibold">
        {isUnknown ? `There is no site ${site}` : `${site} isn't public`}
      </h1>
      {isUnknown ? (
        <p>
          Add it on the{" "}
          <Link href={href({ page: "sites" })} className="underline">
            list of sites
          </Link>
          , or with <code className="code px-1 py-0.5">nowcast site add {site}</code>.
        </p>
      ) : (
        <p>
          <a href={loginPath(site)} className="underline">
            Log in
          </a>{" "}
          with a key that may read it, or open a share link. On the machine that runs Nowcast,{" "}
          <code className="code px-1 py-0.5">nowcast login</code> prints a login link.
        </p>
      )}
    </div>
  );
}

/** The login page, which leads back to a site. */
const loginPath = (site: string) => `${serverPath("/login")}?next=${encodeURIComponent(`/${site}`)}`;
