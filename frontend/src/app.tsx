import { type ReactNode, useCallback, useEffect, useState } from "react";
import { call, type Session, type Site, useLoad } from "./api";
import { useLive } from "./live/use-live";
import { HistoryPage } from "./pages/history";
import { LivePage } from "./pages/live";
import { SitesPage } from "./pages/sites";
import { presets } from "./period";
import { go, historyFilters, href, type Route, useRoute } from "./route";
import { Dialog } from "./ui/bits";
import { ConnectionState, Header } from "./ui/header";

/** The chosen theme, else the system's. */
function useTheme(forced: string | null): [string, () => void] {
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const valid = (t: string | null) => (t === "dark" || t === "light" ? t : null);
  const [theme, setTheme] = useState(
    () => valid(forced) ?? valid(localStorage.getItem("nowcast.theme")) ?? system(),
  );
  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => !valid(forced) && !localStorage.getItem("nowcast.theme") && setTheme(system());
    media.addEventListener("change", follow);
    return () => media.removeEventListener("change", follow);
  });
  document.documentElement.dataset.theme = theme;
  return [
    theme,
    () => {
      const next = theme === "dark" ? "light" : "dark";
      localStorage.setItem("nowcast.theme", next);
      setTheme(next);
    },
  ];
}

/** One key each; none while somebody types. */
function useKeys(route: Route, help: () => void): void {
  useEffect(() => {
    const press = (e: KeyboardEvent) => {
      const target = e.target as HTMLElement;
      if (
        e.metaKey ||
        e.ctrlKey ||
        e.altKey ||
        target.closest("input, select, textarea, dialog") ||
        route.embed
      )
        return;
      if (e.key === "?") return help();
      if (!route.site) return;
      const preset = presets.find((p) => p.key === e.key);
      const history = (change: Partial<Route>) => go(href({ ...route, page: "history", ...change }));
      if (e.key === "l") go(href({ page: "live", site: route.site }));
      else if (e.key === "h") history({ filters: historyFilters(route) });
      else if (preset) history({ period: { preset: preset.id, offset: 0 } });
      else if (e.key === "x" && route.page === "live") go(href({ page: "live", site: route.site }));
      else if (e.key === "x") history({ filters: [] });
      else if (route.page !== "history") return;
      else if (e.key === "ArrowLeft")
        history({ period: { ...route.period, offset: route.period.offset - 1 } });
      else if (e.key === "ArrowRight" && route.period.offset < 0)
        history({ period: { ...route.period, offset: route.period.offset + 1 } });
      else if (e.key === "/")
        [...document.querySelectorAll<HTMLButtonElement>("section button")]
          .find((b) => b.textContent === "More…")
          ?.click();
      else return;
      e.preventDefault();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  });
}

export function App() {
  const route = useRoute();
  const [theme, toggle] = useTheme(route.theme);
  const [help, setHelp] = useState(false);
  const [version, setVersion] = useState(0);
  useKeys(
    route,
    useCallback(() => setHelp(true), []),
  );
  const session = useLoad("session", (signal) => call<Session>("GET", "/api/v1/session", undefined, signal));
  const sites = useLoad(`sites ${version}`, (signal) =>
    call<{ sites: Site[] }>("GET", "/api/v1/sites", undefined, signal),
  );
  const list = sites.data?.sites ?? null;
  useEffect(() => {
    document.title = route.site ? `${route.site} · Nowcast` : "Nowcast";
  }, [route.site]);
  const frame = {
    route,
    sites: list ?? [],
    theme,
    toggle,
    help: () => setHelp(true),
    // Of a site that is there; the server judges again whatever the page shows.
    admin: (session.data?.admin && list?.some((s) => s.domain === route.site)) ?? false,
  };
  const site =
    list?.find((s) => s.domain === route.site) ??
    (list ? { domain: route.site, timezone: "UTC", public: false, created: "" } : null);
  return (
    <>
      {!route.embed && (
        <a
          href="#main"
          className="sr-only focus:not-sr-only focus:fixed focus:z-50 focus:m-2 focus:rounded focus:bg-card focus:p-2"
        >
          Skip to the numbers
        </a>
      )}
      {route.page === "sites" && (
        <>
          <Header {...frame} />
          <Main>
            <SitesPage sites={list} session={session.data} reload={() => setVersion((v) => v + 1)} />
          </Main>
        </>
      )}
      {route.page === "live" && <LiveView key={route.site} {...frame} site={site} />}
      {route.page === "history" && (
        <>
          <Header {...frame} />
          <Main>
            <HistoryPage
              key={route.site}
              route={route}
              site={site}
              theme={theme}
              known={session.data?.authenticated ?? false}
            />
          </Main>
        </>
      )}
      {help && <Help close={() => setHelp(false)} />}
    </>
  );
}

type Frame = Parameters<typeof Header>[0];

function LiveView({ site, ...frame }: Frame & { site: Site | null }) {
  const live = useLive(frame.route.site);
  const state = <ConnectionState live={live} timezone={site?.timezone ?? "UTC"} again={live.retryNow} />;
  if (frame.route.embed)
    return (
      <Main bare>
        <LivePage route={frame.route} site={site} live={live} theme={frame.theme} />
        <div className="mt-2">{state}</div>
      </Main>
    );
  return (
    <>
      <Header {...frame}>{state}</Header>
      <Main>
        <LivePage route={frame.route} site={site} live={live} theme={frame.theme} />
      </Main>
    </>
  );
}

function Main({ children, bare = false }: { children: ReactNode; bare?: boolean }) {
  return (
    <main
      id="main"
      tabIndex={-1}
      className={`mx-auto max-w-[1280px] outline-none ${bare ? "p-2" : "p-4 sm:p-6"}`}
    >
      {children}
    </main>
  );
}

function Help({ close }: { close: () => void }) {
  const keys: [string, string][] = [
    ["l", "Live"],
    ["h", "History"],
    ...presets.map((p): [string, string] => [p.key, p.name]),
    ["← →", "The period before and after"],
    ["/", "Search in a list"],
    ["x", "Clear the filters"],
    ["?", "This help"],
    ["Esc", "Close"],
  ];
  return (
    <Dialog title="Keys" close={close}>
      <dl className="grid grid-cols-[auto_1fr] gap-x-6 gap-y-2">
        {keys.map(([key, what]) => (
          <div key={key} className="contents">
            <dt>
              <kbd className="rounded border border-line bg-raised px-2 py-0.5 font-medium">{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
