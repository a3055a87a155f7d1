// The tracker: page views, navigation, engagement and custom events, in less than 1,024 bytes gzipped.
// The build renames variables but not properties, so that properties are short and some code is terse.

type Options = {
  props?: Record<string, unknown>;
  revenue?: { amount: number | string; currency: string };
  interactive?: boolean;
  callback?: (answer?: { status: number }) => void;
  url?: string;
};
type Track = { (name: string, options?: Options): void; q?: IArguments[] | [string, Options?][] };
/** An event on its way; `born` is its time, ms. */
type Pending = { body: string; born: number; callback?: Options["callback"] };

declare global {
  interface Window {
    nowcast?: Track;
    plausible?: Track;
    /** Set before the tracker runs, it counts automated browsers and pages on localhost as well. */
    __plausible?: boolean;
  }
}

// Short names for what the build can't shorten.
const w = window;
const d = document;
const listen = addEventListener;
const script = d.currentScript as HTMLScriptElement;
const domain = script.dataset.domain;
// Beside the script's directory, so that it works below a path of a host too.
const api = script.dataset.api || new URL("../api/event", script.src).href;

let ignored =
  !w.__plausible &&
  (navigator.webdriver || (domain !== "localhost" && /^(localhost|127\.|\[::1|$)/.test(location.hostname)));
try {
  ignored ||= localStorage.plausible_ignore === "true";
} catch {
  // The browser may forbid storage.
}

// --- sending ---------------------------------------------------------------------------------------

// Failed events are retried with the same id, so that none counts twice: at most 20 events, for at most the
// 5 minutes in which the server recognizes a duplicate. When the queue is full, the newest are dropped.
const queue: Pending[] = [];
let backoff = 1e3; // ms

const post = (event: Pending) => {
  // A string body is text/plain, which needs no CORS preflight.
  fetch(api, { method: "POST", keepalive: true, body: event.body })
    .then((answer) => {
      if (answer.status > 499) throw 0;
      backoff = 1e3;
      return answer;
    })
    .then(event.callback, () => {
      if (Date.now() - event.born < 3e5 && queue.length < 20 && queue.push(event) < 2) {
        // Full jitter over at most 1, 2, … 32, 1, 2 … seconds keeps visitors from retrying in step.
        setTimeout(retry, backoff * Math.random());
        backoff = (backoff * 2) % 63e3;
      }
    });
};
const beacon = (event: Pending) => navigator.sendBeacon(api, event.body);
const retry = () => queue.splice(0).forEach(post);

const send = (name: string, options: Options = {}, engagement?: object) => {
  const event = {
    body: JSON.stringify({
      n: name,
      // the server's limit
      u: (options.url || location.href).slice(0, 2e3),
      d: domain,
      r: d.referrer,
      p: options.props,
      $: options.revenue,
      i: options.interactive,
      // unique among this visitor's events of five minutes
      id: String(Math.random()),
      ...engagement,
    }),
    born: Date.now(),
    callback: options.callback,
  };
  if (ignored) options.callback?.();
  // A beacon outlives the page, which may be unloading.
  else if (!engagement || !beacon(event)) post(event);
};

// --- engagement ------------------------------------------------------------------------------------

let page = ""; // address of the counted page; empty before the first page view
let path = "";
let depth = 0; // deepest scroll position, percent
let sentDepth = 0;
let engagedTime = 0; // ms, since the last engagement event
let engagedSince = 0; // ms since the epoch; 0 while the page is hidden or without focus

const updateDepth = () => {
  // A phone scrolls beyond the end, past 100; the server caps it.
  depth = Math.max(depth, Math.round(((scrollY + innerHeight) / d.documentElement.scrollHeight) * 100));
};

const sendEngagement = () => {
  if (engagedSince) engagedTime += Date.now() - engagedSince;
  engagedSince = 0;
  if (page && (depth > sentDepth || engagedTime > 2999)) {
    send("engagement", { url: page }, { sd: depth, e: engagedTime });
    sentDepth = depth;
    engagedTime = 0;
  }
};

// A page in a background tab or a prerendered page counts once it is visible.
const updateAttention = () => {
  const visible = d.visibilityState === "visible";
  if (visible && !page) countPageview();
  else if (visible && d.hasFocus()) engagedSince ||= Date.now();
  else sendEngagement();
};

// --- page views ------------------------------------------------------------------------------------

const countPageview = () => {
  if (path === location.pathname) return;
  sendEngagement();
  path = location.pathname;
  page = location.href;
  depth = sentDepth = 0;
  send("pageview");
  updateDepth();
  updateAttention();
};

// Calls made before the tracker was loaded.
const earlyCalls = [...(w.plausible?.q || []), ...(w.nowcast?.q || [])];
w.nowcast = w.plausible = send;

for (const method of ["pushState", "replaceState"] as const) {
  const original = history[method];
  history[method] = function (...args) {
    original.apply(this, args);
    if (page) countPageview();
  };
}
listen("popstate", countPageview);
listen("scroll", updateDepth);
listen("focus", updateAttention);
listen("blur", updateAttention);
listen("online", retry);
listen("pagehide", () => {
  sendEngagement();
  queue.forEach(beacon);
});
// The back/forward cache restored the page: that is a page view again.
listen("pageshow", (e) => {
  if (e.persisted) {
    path = "";
    countPageview();
  }
});
listen("visibilitychange", updateAttention);
updateAttention();
for (const call of earlyCalls) send(call[0], call[1]);

export {};
