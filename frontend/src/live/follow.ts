import { type Live, LiveStream, type Options } from "./stream";

/**
 * Follows a stream for as long as a page wants it, and tells it what happens to the page: it is hidden or shown, it gets the focus, the
 * network comes back.
 */
export function follow(
  options: Options,
  changed: (l: Live) => void,
): { again: () => void; stop: () => void } {
  const stream = new LiveStream(options, changed);
  const end = new AbortController();
  const on = (target: EventTarget, event: string, act: () => void) =>
    target.addEventListener(event, act, { signal: end.signal });
  on(document, "visibilitychange", () => stream.setHidden(document.hidden));
  on(window, "focus", () => stream.again());
  on(window, "online", () => stream.renew());
  stream.setHidden(document.hidden);
  stream.start();
  return {
    again: () => stream.again(),
    stop: () => {
      end.abort();
      stream.stop();
    },
  };
}
