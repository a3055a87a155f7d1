import { type Live, LiveStream, type Options } from "./stream";

export interface Following {
  /** Ends the pause before the next attempt, but not before the server's Retry-After. */
  retryNow: () => void;
  stop: () => void;
}

/**
 * Follows a stream until `stop`, and passes the page's events on to it: visibility, focus, and the network
 * coming back. `onChange` gets every new state of the stream.
 */
export function follow(options: Options, onChange: (live: Live) => void): Following {
  const stream = new LiveStream(options, onChange);
  const listeners = new AbortController();
  const listen = (target: EventTarget, event: string, handler: () => void) =>
    target.addEventListener(event, handler, { signal: listeners.signal });
  listen(document, "visibilitychange", () => stream.setHidden(document.hidden));
  listen(window, "focus", () => stream.retryNow());
  listen(window, "online", () => stream.reconnect());
  stream.setHidden(document.hidden);
  stream.start();
  return {
    retryNow: () => stream.retryNow(),
    stop: () => {
      listeners.abort();
      stream.stop();
    },
  };
}
