import { call, type Ledger, type Outcomes, useLoad } from "../api";
import { exact } from "../format";
import type { Span } from "../period";
import { Notice } from "./bits";

const reasons: Record<string, string> = {
  address: "From an address that this site leaves out",
  bot: "Sent by a bot",
  country: "From a country that this site leaves out",
  hostname: "From a host that isn't this site's",
  opted_out: "From somebody who asked not to be counted",
  path: "On a page that this site leaves out",
  prefetch: "Loaded ahead by a browser and not looked at",
  spam_referrer: "With a referrer that is known as spam",
};

/** What became of beacons, in words: what counts first, then what doesn't, most first. Every beacon is in one line. */
export function outcomes(o: Outcomes): { id: string; name: string; value: number }[] {
  const dropped = Object.entries(o.dropped).map(([reason, value]) => ({
    id: `dropped ${reason}`,
    name: `Dropped: ${(reasons[reason] ?? reason.replaceAll("_", " ")).replace(/^[A-Z]/, (c) => c.toLowerCase())}`,
    value,
  }));
  const rest = [
    { id: "late", name: "Late: in history, not in the live numbers", value: o.late },
    { id: "stale", name: "Very late: in history unless it is there already", value: o.stale },
    { id: "repeated", name: "Repeated: the same event sent again, counted once", value: o.repeated },
    ...dropped,
  ];
  return [
    { id: "counted", name: "Counted", value: o.counted },
    ...rest.filter((r) => r.value > 0).sort((a, b) => b.value - a.value),
  ];
}

const share = (n: number, of: number): string => {
  const percent = (100 * n) / of;
  if (n === 0 || percent >= 10) return `${Math.round(percent)}%`;
  return percent < 0.1 ? "< 0.1%" : `${percent.toFixed(1)}%`;
};

export function LedgerTable({ total }: { total: Outcomes }) {
  if (total.received === 0) return <p className="text-soft">No beacon was received in this period.</p>;
  return (
    <table className="w-full text-left">
      <thead className="sr-only">
        <tr>
          <th scope="col">What became of it</th>
          <th scope="col">Beacons</th>
          <th scope="col">Share</th>
        </tr>
      </thead>
      <tbody>
        {outcomes(total).map((r) => (
          <tr key={r.id} className="border-b border-line">
            <th scope="row" className="py-1.5 pr-3 font-normal">
              {r.name}
            </th>
            <td className="py-1.5 text-right tabular-nums">{exact(r.value)}</td>
            <td className="w-20 py-1.5 text-right text-soft tabular-nums">
              {share(r.value, total.received)}
            </td>
          </tr>
        ))}
      </tbody>
      <tfoot>
        <tr className="font-semibold">
          <th scope="row" className="py-1.5 pr-3">
            Received
          </th>
          <td className="py-1.5 text-right tabular-nums" data-testid="ledger-received">
            {exact(total.received)}
          </td>
          <td />
        </tr>
      </tfoot>
    </table>
  );
}

/** For whoever may see it: the server refuses everybody else, and then there is nothing. */
export function LedgerCard({ site, span, refresh }: { site: string; span: Span; refresh: number }) {
  const [from, to] = span.range;
  const path = `/api/v1/sites/${encodeURIComponent(site)}/ledger?by=total&from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`;
  const { data, error, loading } = useLoad(
    path,
    (signal) => call<Ledger>("GET", path, undefined, signal),
    refresh,
  );
  if (error && [401, 403].includes(error.status)) return null;
  return (
    <section aria-labelledby="ledger" className="card p-4">
      <h2 id="ledger" className="font-semibold">
        What became of beacons
      </h2>
      <p className="mt-1 mb-3 text-xs text-soft">
        {span.label}. Everything that trackers sent to this site, whatever the filters above; only who has a
        key sees this. The newest two minutes are still growing.
      </p>
      {error && <Notice kind="bad">{error.message}</Notice>}
      <div
        className={`min-h-24 transition-opacity duration-150 ${data && (error || loading) ? "opacity-60" : ""}`}
      >
        {data ? <LedgerTable total={data.total} /> : !error && <div className="skeleton h-24" />}
      </div>
    </section>
  );
}
