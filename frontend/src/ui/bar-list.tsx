import { type ReactNode, type RefObject, useEffect, useLayoutEffect, useRef, useState } from "react";
import { classes } from "../classes";
import { formatExact, formatShort } from "../format";
import { Link } from "./link";

export interface BarRow {
  key: string;
  label: ReactNode;
  value: number;
  href?: string;
  title?: string;
  isCurrent?: boolean;
}

interface Props {
  rows: BarRow[];
  /** The values change by themselves: rows change their order only from time to time, and slide. */
  live?: boolean;
  /** The whole that shares are of; the sum of the rows by default. */
  total?: number;
  empty: ReactNode;
  testId?: string;
}

const REORDER_INTERVAL = 2_000; // ms: a row stays long enough in its place to be clicked
const SLIDE_MS = 150;

/** Values as a list with bars; the longest bar is the largest value. */
export function BarList({ rows, live = false, total, empty, testId }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const keys = rows.map((r) => r.key);
  const stable = useStableOrder(keys, live);
  const rowByKey = new Map(rows.map((r) => [r.key, r]));
  const order = [...stable.filter((k) => rowByKey.has(k)), ...keys.filter((k) => !stable.includes(k))];
  useSlide(list, order, live);
  const maximum = Math.max(1, ...rows.map((r) => r.value));
  const whole = total ?? rows.reduce((n, r) => n + r.value, 0);
  if (rows.length === 0)
    return (
      <p data-testid={testId} className="px-2 py-1.5 text-soft">
        {empty}
      </p>
    );
  return (
    <ul ref={list} data-testid={testId} className="relative flex flex-col gap-1">
      {order.map((key) => (
        <li key={key} data-key={key}>
          <Bar row={rowByKey.get(key) as BarRow} maximum={maximum} whole={whole} />
        </li>
      ))}
    </ul>
  );
}

function Bar({ row, maximum, whole }: { row: BarRow; maximum: number; whole: number }) {
  const share = whole ? Math.round((100 * row.value) / whole) : 0;
  const className = "target relative flex min-h-8 items-center gap-3 overflow-hidden rounded px-2";
  const body = (
    <>
      <span
        aria-hidden
        className="absolute inset-y-0 left-0 rounded bg-bar"
        style={{ width: `${(100 * row.value) / maximum}%` }}
      />
      <span className="relative min-w-0 flex-1 truncate">{row.label}</span>
      <span className="relative font-medium" title={`${formatExact(row.value)} (${share}%)`}>
        {formatShort(row.value)}
      </span>
    </>
  );
  if (!row.href)
    return (
      <div title={row.title} className={className}>
        {body}
      </div>
    );
  return (
    <Link
      href={row.href}
      title={row.title}
      aria-current={row.isCurrent || undefined}
      className={classes(className, "hover:bg-raised", row.isCurrent && "font-semibold")}
    >
      {body}
    </Link>
  );
}

/** The order of the keys. With `stable` it changes at most once per REORDER_INTERVAL. */
function useStableOrder(keys: string[], stable: boolean): string[] {
  const latest = keys.join("\n");
  const [shown, setShown] = useState(latest);
  const reorderedAt = useRef(-REORDER_INTERVAL);
  useEffect(() => {
    if (!stable || shown === "" || latest === "") {
      setShown(latest);
      return;
    }
    if (latest === shown) return;
    const elapsed = performance.now() - reorderedAt.current;
    const reorder = () => {
      reorderedAt.current = performance.now();
      setShown(latest);
    };
    const timer = setTimeout(reorder, Math.max(0, REORDER_INTERVAL - elapsed));
    return () => clearTimeout(timer);
  }, [latest, shown, stable]);
  return shown === "" ? [] : shown.split("\n");
}

/** Slides the list's items from their previous places to the new ones, by the FLIP technique. */
function useSlide(list: RefObject<HTMLUListElement | null>, order: string[], enabled: boolean): void {
  const previousTops = useRef(new Map<string, number>());
  const signature = order.join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: the signature stands for the order of the items
  useLayoutEffect(() => {
    const tops = new Map<string, number>();
    const animates = enabled && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const item of (list.current?.children ?? []) as Iterable<HTMLElement>) {
      const key = item.dataset.key ?? "";
      const top = item.offsetTop;
      const previous = previousTops.current.get(key);
      if (animates && previous !== undefined && previous !== top)
        item.animate([{ transform: `translateY(${previous - top}px)` }, { transform: "none" }], {
          duration: SLIDE_MS,
          easing: "ease-out",
        });
      tops.set(key, top);
    }
    previousTops.current = tops;
  }, [signature, enabled]);
}
