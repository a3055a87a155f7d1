// The tracker: page views, navigation, engagement and custom events, in less than a kilobyte.
// What must be small is written small; what isn't obvious is said here, for comments weigh nothing.

type Options = {
  props?: Record<string, unknown>;
  revenue?: { amount: number | string; currency: string };
  interactive?: boolean;
  callback?: (answer?: { status: number }) => void;
  url?: string;
};
type Track = { (name: string, options?: Options): void; q?: IArguments[] | [string, Options?][] };
type Pending = { body: string; born: number; callback?: Options["callback"] };

declare global {
  interface Window {
    nowcast?: Track;
    plausible?: Track;
    /** Counts automated browsers and pages on localhost too. */
    __plausible?: boolean;
  }
}

const w = window;
const d = document;
const on = addEventListener;
const script = d.currentScript as HTMLScriptElement;
const domain = script.dataset.domain;
const api = script.dataset.api || new URL("/api/event", script.src).href;

let ignored =
  !w.__plausible &&
  (navigator.webdriver || (domain !== "localhost" && /^(localhost|127\.|\[::1|$)/.test(location.hostname)));
try {
  ignored ||= localStorage.plausible_ignore === "true";
} catch {
  // storage may be forbidden
}

// --- sending -----------------------------------------------------------------------------------------------------------------

// What failed is sent again with the same id: at most 20 events, for at most 5 minutes, which is how long readers remember ids.
// When more fail than that, the newest are dropped.
const queue: Pending[] = [];
let pause = 1e3;

const post = (event: Pending) => {
  // a string goes as text/plain, which needs no preflight
  fetch(api, { method: "POST", keepalive: true, body: event.body })
    .then((answer) => {
      if (answer.status > 499) throw 0;
      pause = 1e3;
      return answer;
    })
    .then(event.callback, () => {
      if (Date.now() - event.born < 3e5 && queue.length < 20 && queue.push(event) < 2) {
        // 1, 2, … 32, 1, 2 seconds at most; the jitter keeps visitors from coming back all at once
        setTimeout(retry, pause * Math.random());
        pause = (pause * 2) % 63e3;
      }
    });
};
const beacon = (event: Pending) => navigator.sendBeacon(api, event.body);
const retry = () => queue.splice(0).forEach(post);

const send = (name: string, options: Options = {}, engagement?: object) => {
  const event = {
    body: JSON.stringify({
      n: name,
      // the server refuses longer ones
      u: (options.url || location.href).slice(0, 2e3),
      d: domain,
      r: d.referrer,
      p: options.props,
      $: options.revenue,
      i: options.interactive,
      // it only has to differ from this visitor's other events of five minutes
      id: String(Math.random()),
      ...engagement,
    }),
    born: Date.now(),
    callback: options.callback,
  };
  if (ignored) options.callback?.();
  // the page may be going: a beacon outlives it
  else if (!engagement || !beacon(event)) post(event);
};

// --- engagement --------------------------------------------------------------------------------------------------------------

let page = ""; // the address that is counted now; empty until the first page view
let path = "";
let depth = 0;
let sentDepth = 0;
let engaged = 0;
let since = 0; // when the page got the visitor's attention; 0 while it hasn't

const look = () => {
  // past 100 where a phone lets one scroll beyond the end; the server takes it for 100
  depth = Math.max(depth, Math.round(((scrollY + innerHeight) / d.documentElement.scrollHeight) * 100));
};

const leave = () => {
  if (since) engaged += Date.now() - since;
  since = 0;
  if (page && (depth > sentDepth || engaged > 2999)) {
    send("engagement", { url: page }, { sd: depth, e: engaged });
    sentDepth = depth;
    engaged = 0;
  }
};

// A tab in the background and a prerendered page are counted when somebody sees them.
const attend = () => {
  const seen = d.visibilityState === "visible";
  if (seen && !page) view();
  else if (seen && d.hasFocus()) since ||= Date.now();
  else leave();
};

// --- page views --------------------------------------------------------------------------------------------------------------

const view = () => {
  if (path === location.pathname) return;
  leave();
  path = location.pathname;
  page = location.href;
  depth = sentDepth = 0;
  send("pageview");
  look();
  attend();
};

const waiting = [...(w.plausible?.q || []), ...(w.nowcast?.q || [])];
w.nowcast = w.plausible = send;

for (const method of ["pushState", "replaceState"] as const) {
  const original = history[method];
  history[method] = function (...args) {
    original.apply(this, args);
    if (page) view();
  };
}
on("popstate", view);
on("scroll", look);
on("focus", attend);
on("blur", attend);
on("online", retry);
on("pagehide", () => {
  leave();
  queue.forEach(beacon);
});
// back from the browser's cache of pages
on("pageshow", (e) => {
  if (e.persisted) {
    path = "";
    view();
  }
});
on("visibilitychange", attend);
attend();
for (const call of waiting) send(call[0], call[1]);

export {};
