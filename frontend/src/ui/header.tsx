import type { ReactNode } from "react";
import type { Site } from "../api";
import { serverPath } from "../base";
import { classes } from "../classes";
import { historyFilters, href, type Route } from "../route";
import { Logo, Moon, Sun } from "./icons";
import { Link } from "./link";
import { ShareButton } from "./share";
import { SiteMenu } from "./site-menu";

export interface HeaderProps {
  route: Route;
  sites: Site[];
  theme: string;
  toggleTheme: () => void;
  openHelp: () => void;
  /** The session may change the route's site. */
  isAdmin: boolean;
  isAuthenticated: boolean;
  children?: ReactNode;
}

export function Header(props: HeaderProps) {
  const { route, sites, theme, toggleTheme, openHelp, isAdmin, isAuthenticated, children } = props;
  return (
    <header className="sticky top-0 z-20 border-b border-line bg-card">
      <div
        className={classes(
          "mx-auto flex min-h-14 max-w-[1280px] flex-wrap items-center",
          "gap-x-3 gap-y-1 px-4 py-1.5 sm:px-6",
        )}
      >
        <Link href={href({ page: "sites" })} aria-label="All sites" className="flex items-center rounded p-1">
          <Logo />
        </Link>
        {route.site ? (
          <SiteMenu route={route} sites={sites} />
        ) : (
          <span className="font-semibold">Nowcast</span>
        )}
        <div className="min-w-24 flex-1">{children}</div>
        <nav aria-label="Views" className="ml-auto flex items-center gap-1">
          {route.site && (
            <>
              <PageLink route={route} page="live" name="Live" />
              <PageLink route={route} page="history" name="History" />
              {isAdmin && <ShareButton key={route.site} site={route.site} />}
            </>
          )}
          <button
            type="button"
            onClick={toggleTheme}
            className="quiet target min-w-8 p-2"
            aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}
          >
            {theme === "dark" ? <Sun /> : <Moon />}
          </button>
          <button
            type="button"
            onClick={openHelp}
            className="quiet target hidden min-w-8 p-2 font-semibold sm:block"
            aria-label="Keyboard help"
          >
            ?
          </button>
          {isAuthenticated && (
            <form method="post" action={serverPath("/logout")}>
              <button type="submit" className="quiet target px-2 py-1.5 font-medium">
                Log out
              </button>
            </form>
          )}
        </nav>
      </div>
    </header>
  );
}

function PageLink({ route, page, name }: { route: Route; page: "live" | "history"; name: string }) {
  const isCurrent = route.page === page;
  return (
    <Link
      href={href({ page, site: route.site, filters: page === "history" ? historyFilters(route) : [] })}
      aria-current={isCurrent ? "page" : undefined}
      className={classes(
        "target flex items-center rounded-md px-3 py-1.5 font-medium",
        isCurrent ? "bg-raised text-ink" : "quiet",
      )}
    >
      {name}
    </Link>
  );
}
