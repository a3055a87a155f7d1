import { Link } from "../../ui/link";

/** Replaces the live page of an unknown site (404) or one that the viewer may not read (401, 403). */
export function NoAccess({ status, site }: { status: number; site: string }) {
  const isUnknown = status === 404;
  return (
    <div className="card mx-auto mt-12 flex max-w-xl flex-col gap-3 p-6">
      <h1 className="text-lg font-semibold">
        {isUnknown ? `There is no site ${site}` : `${site} isn't public`}
      </h1>
      {isUnknown ? (
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
          <code className="code px-1 py-0.5">nowcast all</code> prints one when it starts; elsewhere ask the
          operator for a key.
        </p>
      )}
    </div>
  );
}
