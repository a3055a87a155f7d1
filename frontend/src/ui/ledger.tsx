import { type Ledger, type Outcomes, useGet } from "../api";
import { formatExact } from "../format";
import type { DateRange } from "../period";
import { Notice } from "./notice";

const dropReasons: Record<string, string> = {
  address: "from an address that this site leaves out",
  bot: "sent by a bot",
  country: "from a country that this site leaves out",
  hostname: "from a host that isn't this site's",
  opted_out: "from somebody who asked not to be counted",
  path: "on a page that this site leaves out",
  prefetch: "loaded ahead by a browser and not looked at",
  spam_referrer: "with a referrer that is known as spam",
};

interface OutcomeRow {
  id: string;
  name: string;
  value: number;
}

/**
 * The outcomes of beacons: counted, then the others, largest first, without zeros. They sum up to `received`.
 */
export function outcomeRows(o: Outcomes): OutcomeRow[] {
  const dropped = Object.entries(o.dropped).map(([reason, value]) => ({
    id: `dropped ${reason}`,
    name: `Dropped: ${dropReasons[reason] ?? reason.replaceAll("_", " ")}`,
    value,
  }));
  const others = [
    { id: "late", name: "Late: in history, not in the live numbers", value: o.late },
    { id: "stale", name: "Very late: in history unless it is there already", value: o.stale },
    { id: "duplicate", name: "Duplicate: the same event sent again, counted once", value: o.duplicate },
    ...dropped,
  ];
  return [
    { id: "counted", name: "Counted", value: o.counted },
    ...others.filter((r) => r.value > 0).sort((a, b) => b.value - a.value),
  ];
}

function formatShare(n: number, total: number): string {
  const percent = (100 * n) / total;
  if (n === 0 || percent >= 10) return `${Math.round(percent)}%`;
  return percent < 0.1 ? "< 0.1%" : `${percent.toFixed(1)}%`;
}

export function LedgerTable({ total }: { total: Outcomes }) {
  if (total.received === 0) return <p className="text-soft">No beacon was received in this period.</p>;
  return (
    <table className="w-full text-left">
      <thead className="sr-only">
        <tr>
          <th scope="col">Outcome</th>
          <th scope="col">Beacons</th>
          <th scope="col">Share</th>
        </tr>
      </thead>
      <tbody>
        {outcomeRows(total).map((r) => (
          <tr key={r.id} className="border-b border-line">
            <th scope="row" className="py-1.5 pr-3 font-normal">
              {r.name}
            </th>
            <td className="py-1.5 text-right tabular-nums">{formatExact(r.value)}</td>
            <td className="w-20 py-1.5 text-right text-soft tabular-nums">
              {formatShare(r.value, total.received)}
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
            {formatExact(total.received)}
          </td>
          <td />
        </tr>
      </tfoot>
    </table>
  );
}

/** The ledger of a site. Without authorization (401, 403) it renders nothing. */
export function LedgerCard({ site, range, refresh }: { site: string; range: DateRange; refresh: number }) {
  const [from, to] = range.bounds;
  const query = `by=total&from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`;
  const path = `/api/v1/sites/${encodeURIComponent(site)}/ledger?${query}`;
  const { data, error, loading } = useGet<Ledger>(path, 0, refresh);
  if (error && [401, 403].includes(error.status)) return null;
  const dimmed = data && (error || loading) ? "opacity-60" : "";
  return (
    <section aria-labelledby="ledger" className="card p-4">
      <h2 id="ledger" className="font-semibold">
        Beacon outcomes
      </h2>
      <p className="mt-1 mb-3 text-xs text-soft">
        {range.label}. All beacons sent to this site, regardless of the filters above. Visible only with a
        key. The newest two minutes are incomplete.
      </p>
      {error && <Notice kind="error">{error.message}</Notice>}
      <div className={`min-h-24 transition-opacity duration-150 ${dimmed}`}>
        {data ? <LedgerTable total={data.total} /> : !error && <div className="skeleton h-24" />}
      </div>
    </section>
  );
}
