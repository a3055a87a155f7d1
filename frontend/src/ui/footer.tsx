import type { ReactNode } from "react";

/** The attribution that the country database's licence (CC BY 4.0) asks for. */
export function Footer() {
  return (
    <footer className="mx-auto max-w-[1280px] px-4 pb-4 text-xs text-soft sm:px-6">
      Countries:{" "}
      <ExternalLink href="https://github.com/sapics/ip-location-db/tree/main/geo-whois-asn-country">
        geo-whois-asn-country
      </ExternalLink>{" "}
      by <ExternalLink href="https://www.nro.net/">NRO</ExternalLink>,{" "}
      <ExternalLink href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</ExternalLink>
    </footer>
  );
}

function ExternalLink({ href, children }: { href: string; children: ReactNode }) {
  return (
    <a href={href} rel="noreferrer" className="underline">
      {children}
    </a>
  );
}
