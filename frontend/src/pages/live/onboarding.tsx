import { useState } from "react";
import { type ApiError, request } from "../../api";
import { serverUrl } from "../../base";
import { Code } from "../../ui/code";
import { Notice } from "../../ui/notice";

/** The page of a site without any event: how to send the first one, which turns it into the live page. */
export function Onboarding({ site }: { site: string }) {
  const [status, setStatus] = useState<string | null>(null);
  const snippet = `<script defer data-domain="${site}" src="${serverUrl("/js/script.js")}"></script>`;
  const beacon = `{"name":"pageview","domain":"${site}","url":"https://${site}/"}`;
  const userAgent = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0";
  const curl = `curl -H 'User-Agent: ${userAgent}' \\\n  -d '${beacon}' ${serverUrl("/api/event")}`;
  const send = () =>
    request("POST", "/api/event", JSON.parse(beacon)).then(
      () => setStatus("Sent. It shows here in a moment."),
      (e: ApiError) => setStatus(e.message),
    );
  return (
    <div className="card mx-auto mt-4 flex max-w-3xl flex-col gap-6 p-4 sm:mt-10 sm:p-8">
      <div>
        <h1 className="text-lg font-semibold">Waiting for the first page view…</h1>
        <p className="mt-1 text-soft">
          This page turns into the live dashboard of {site} by itself as soon as one arrives.
        </p>
      </div>
      <Code label="1. Put this into the head of every page" text={snippet} />
      <Code label="2. Or try it from a terminal" text={curl} />
      <div className="flex flex-wrap items-center gap-3">
        <button type="button" className="button button-primary" onClick={send}>
          Send a page view from here
        </button>
        {status && <span className="text-soft">{status}</span>}
      </div>
      {site === "localhost" && (
        <Notice>Pages served from localhost are counted here, so that you can try Nowcast.</Notice>
      )}
    </div>
  );
}
