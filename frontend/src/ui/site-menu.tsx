import { useEffect, useRef, useState } from "react";
import type { Site } from "../api";
import { classes } from "../classes";
import { href, type Route } from "../route";
import { ChevronDown } from "./icons";
import { Link } from "./link";

const button = classes(
  "target flex max-w-full items-center gap-1.5 rounded-md px-2 py-1.5",
  "font-semibold hover:bg-raised sm:max-w-72",
);
const menu = classes(
  "absolute left-0 z-30 mt-1 max-h-80 min-w-56 overflow-auto p-1",
  "rounded-lg border border-line bg-card",
);
const item = "target block rounded px-3 py-1.5 hover:bg-raised";

/** The site's name, which opens a menu of all sites. Escape and a click outside close it. */
export function SiteMenu({ route, sites }: { route: Route; sites: Site[] }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const onEvent = (e: Event) => {
      const closes =
        e instanceof KeyboardEvent ? e.key === "Escape" : !box.current?.contains(e.target as Node);
      if (closes) setOpen(false);
    };
    document.addEventListener("mousedown", onEvent);
    document.addEventListener("keydown", onEvent);
    return () => {
      document.removeEventListener("mousedown", onEvent);
      document.removeEventListener("keydown", onEvent);
    };
  }, [open]);
  const close = () => setOpen(false);
  return (
    <div ref={box} className="relative min-w-0 max-sm:basis-[calc(100%-52px)]">
      <button type="button" aria-expanded={open} onClick={() => setOpen(!open)} className={button}>
        <span className="truncate">{route.site}</span>
        <ChevronDown />
      </button>
      {open && (
        <ul className={menu}>
          {sites.map(({ domain }) => (
            <li key={domain}>
              <Link
                href={href({ page: route.page, site: domain })}
                onClick={close}
                className={classes(item, "truncate", domain === route.site && "font-semibold")}
              >
                {domain}
              </Link>
            </li>
          ))}
          <li className="mt-1 border-t border-line pt-1">
            <Link href={href({ page: "sites" })} onClick={close} className={classes(item, "text-soft")}>
              All sites
            </Link>
          </li>
        </ul>
      )}
    </div>
  );
}
