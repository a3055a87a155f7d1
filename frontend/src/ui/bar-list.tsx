import { type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react";
import { exact, short } from "../format";
import { Link } from "./bits";

export interface Row {
  key: string;
  label: ReactNode;
  value: number;
  href?: string;
  title?: string;
  current?: boolean;
}

const HOLD = 2_000; // rows keep their place so long, so that one can click them
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The order of keys, changed at most every two seconds. */
function useHeld(keys: string[], hold: boolean): string[] {
  const wanted = keys.join("\n");
  const [shown, setShown] = useState(wanted);
  const since = useRef(-HOLD);
  useEffect(() => {
    if (!hold || shown === "" || wanted === "") {
      setShown(wanted);
      return;
    }
    if (wanted === shown) return;
    const t = setTimeout(
      () => {
        since.current = performance.now();
        setShown(wanted);
      },
      Math.max(0, HOLD - (performance.now() - since.current)),
    );
    return () => clearTimeout(t);
  }, [wanted, shown, hold]);
  return shown === "" ? [] : shown.split("\n");
}

/** Values with a bar behind each: the share is its length. `live` holds the order and slides rows to their new places. */
export function BarList({
  rows,
  live = false,
  total,
  empty,
  testId,
}: {
  rows: Row[];
  live?: boolean;
  total?: number;
  empty: ReactNode;
  testId?: string;
}) {
  const list = useRef<HTMLUListElement>(null);
  const places = useRef(new Map<string, number>());
  const byKey = new Map(rows.map((r) => [r.key, r]));
  const held = useHeld(
    rows.map((r) => r.key),
    live,
  );
  const order = [
    ...held.filter((k) => byKey.has(k)),
    ...rows.map((r) => r.key).filter((k) => !held.includes(k)),
  ];
  const signature = order.join("\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: the signature stands for the order of the rows in the page
  useLayoutEffect(() => {
    const next = new Map<string, number>();
    for (const li of list.current?.children ?? []) {
      const key = (li as HTMLElement).dataset.key ?? "";
      const top = (li as HTMLElement).offsetTop;
      const old = places.current.get(key);
      if (live && old !== undefined && old !== top && !calm())
        li.animate([{ transform: `translateY(${old - top}px)` }, { transform: "none" }], {
          duration: 150,
          easing: "ease-out",
        });
      next.set(key, top);
    }
    places.current = next;
  }, [signature, live]);
  const most = Math.max(1, ...rows.map((r) => r.value));
  const whole = total ?? rows.reduce((n, r) => n + r.value, 0);
  if (rows.length === 0)
    return (
      <p data-testid={testId} className="px-2 py-1.5 text-soft">
        {empty}
      </p>
    );
  return (
    <ul ref={list} data-testid={testId} className="relative flex flex-col gap-1">
      {order.map((key) => {
        const r = byKey.get(key) as Row;
        const share = whole ? Math.round((100 * r.value) / whole) : 0;
        const body = (
          <>
            <span
              aria-hidden
              className="absolute inset-y-0 left-0 rounded bg-bar"
              style={{ width: `${(100 * r.value) / most}%` }}
            />
            <span className="relative min-w-0 flex-1 truncate">{r.label}</span>
            <span className="relative font-medium" title={`${exact(r.value)} (${share}%)`}>
              {short(r.value)}
            </span>
          </>
        );
        const look = "target relative flex min-h-8 items-center gap-3 overflow-hidden rounded px-2";
        return (
          <li key={key} data-key={key}>
            {r.href ? (
              <Link
                href={r.href}
                title={r.title}
                aria-current={r.current || undefined}
                className={`${look} hover:bg-raised ${r.current ? "font-semibold" : ""}`}
              >
                {body}
              </Link>
            ) : (
              <div title={r.title} className={look}>
                {body}
              </div>
            )}
          </li>
        );
      })}
    </ul>
  );
}
