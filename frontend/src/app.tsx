import { type ReactNode, useCallback, useEffect, useState } from "react";
import { request, type Session, type Site, useGet, useLoad } from "./api";
import { useLive } from "./live/use-live";
import { HistoryPage } from "./pages/history/page";
import { LivePage } from "./pages/live/page";
import { SitesPage } from "./pages/sites";
import { useRoute } from "./route";
import { useShortcuts } from "./shortcuts";
import { useTheme } from "./theme";
import { ConnectionState } from "./ui/connection-state";
import { Footer } from "./ui/footer";
import { Header, type HeaderProps } from "./ui/header";
import { Help } from "./ui/help";

const skipLink =
  "sr-only focus:not-sr-only focus:fixed focus:z-50 focus:m-2 focus:rounded focus:bg-card focus:p-2";

export function App() {
  const route = useRoute();
  const [theme, toggleTheme] = useTheme(route.theme);
  const [helpOpen, setHelpOpen] = useState(false);
  const openHelp = useCallback(() => setHelpOpen(true), []);
  useShortcuts(route, openHelp);
  const [sitesVersion, setSitesVersion] = useState(0);
  const session = useGet<Session>("/api/v1/session").data;
  const sites = useGet<{ sites: Site[] }>("/api/v1/sites", sitesVersion).data?.sites ?? null;
  useEffect(() => {
    document.title = route.site ? `${route.site} · Nowcast` : "Nowcast";
  }, [route.site]);
  const listedSite = sites?.find((s) => s.domain === route.site);
  // The server authorizes every request again, whatever the page offers.
  const isAdmin = session?.admin === true && listedSite !== undefined;
  const isAuthenticated = session?.authenticated ?? false;
  const header = { route, sites: sites ?? [], theme, toggleTheme, openHelp, isAdmin, isAuthenticated };
  // A public site that isn't listed is shown to those who know its name.
  const unlistedPath =
    sites && route.site && !listedSite ? `/api/v1/sites/${encodeURIComponent(route.site)}` : null;
  const unlisted = useLoad(unlistedPath, (signal) =>
    request<Site>("GET", unlistedPath ?? "", undefined, signal),
  );
  const unknownSite = { domain: route.site, timezone: "UTC", public: false, created: "" };
  const unlistedSite = unlisted.data?.domain === route.site.toLowerCase() ? unlisted.data : null;
  const site = listedSite ?? unlistedSite ?? (unlisted.error ? unknownSite : null);
  return (
    <>
      {!route.embed && (
        <a href={`${location.pathname}${location.search}#main`} className={skipLink}>
          Skip to the numbers
        </a>
      )}
      {route.embed && route.page !== "live" && (
        <Main embed>
          <p>Only the live view of a site can be shown in a frame.</p>
        </Main>
      )}
      {!route.embed && route.page === "sites" && (
        <>
          <Header {...header} />
          <Main>
            <SitesPage sites={sites} session={session} reloadSites={() => setSitesVersion((v) => v + 1)} />
          </Main>
        </>
      )}
      {route.page === "live" && <LiveView key={route.site} header={header} site={site} />}
      {!route.embed && route.page === "history" && (
        <>
          <Header {...header} />
          <Main>
            <HistoryPage
              key={route.site}
              route={route}
              site={site}
              theme={theme}
              isAuthenticated={isAuthenticated}
            />
          </Main>
        </>
      )}
      {route.site && !route.embed && <Footer />}
      {helpOpen && <Help onClose={() => setHelpOpen(false)} />}
    </>
  );
}

/** The live page with its connection, whose state shows in the header, or below the page in an embed. */
function LiveView({ header, site }: { header: HeaderProps; site: Site | null }) {
  const { route, theme } = header;
  const live = useLive(route.site);
  const page = <LivePage route={route} site={site} live={live} theme={theme} />;
  const retryNow = route.embed ? undefined : live.retryNow;
  const state = <ConnectionState live={live} timezone={site?.timezone ?? "UTC"} retryNow={retryNow} />;
  if (route.embed)
    return (
      <Main embed>
        {page}
        <div className="mt-2">{state}</div>
      </Main>
    );
  return (
    <>
      <Header {...header}>{state}</Header>
      <Main>{page}</Main>
    </>
  );
}

function Main({ children, embed = false }: { children: ReactNode; embed?: boolean }) {
  const padding = embed ? "p-2" : "p-4 sm:p-6";
  return (
    <main id="main" tabIndex={-1} className={`mx-auto max-w-[1280px] outline-none ${padding}`}>
      {children}
    </main>
  );
}
