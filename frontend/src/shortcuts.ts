import { useEffect } from "react";
import { presets } from "./period";
import { historyFilters, href, navigate, type Route } from "./route";

/** Marks the button that the key "/" presses: `<button data-shortcut="/">`. */
export const SEARCH_SHORTCUT = "/";

/** Handles the keyboard shortcuts that the help lists. They do nothing in form fields, dialogs and embeds. */
export function useShortcuts(route: Route, openHelp: () => void): void {
  useEffect(() => {
    const onKeyDown = (e: KeyboardEvent) => {
      const target = e.target as HTMLElement;
      const inField = target.closest("input, select, textarea, dialog") !== null;
      if (e.metaKey || e.ctrlKey || e.altKey || inField || route.embed) return;
      if (e.key === "?") openHelp();
      else if (route.site && handleKey(e.key, route)) e.preventDefault();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  });
}

/** Handles a key on a page of a site, and reports whether it is a shortcut there. */
function handleKey(key: string, route: Route): boolean {
  const { site, page, period } = route;
  const live = () => navigate(href({ page: "live", site }));
  const history = (change: Partial<Route>) => navigate(href({ ...route, page: "history", ...change }));
  const preset = presets.find((p) => p.key === key);
  if (key === "l") live();
  else if (key === "h") history({ filters: historyFilters(route) });
  else if (preset) history({ period: { preset: preset.id, offset: 0 } });
  else if (key === "x" && page === "live") live();
  else if (key === "x") history({ filters: [] });
  else if (page !== "history") return false;
  else if (key === "ArrowLeft") history({ period: { ...period, offset: period.offset - 1 } });
  else if (key === "ArrowRight" && period.offset < 0)
    history({ period: { ...period, offset: period.offset + 1 } });
  else if (key === SEARCH_SHORTCUT)
    document.querySelector<HTMLButtonElement>(`[data-shortcut="${SEARCH_SHORTCUT}"]`)?.click();
  else return false;
  return true;
}
