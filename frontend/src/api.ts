import { useEffect, useState } from "react";
import type { components } from "./api.gen";

export type Site = components["schemas"]["Site"];
export type Session = components["schemas"]["Session"];
export type Link = components["schemas"]["Link"];
export type LinkCreated = components["schemas"]["LinkCreated"];
export type Ledger = components["schemas"]["Ledger"];
export type Outcomes = components["schemas"]["Outcomes"];
export type QueryRequest = components["schemas"]["QueryRequest"];
export type QueryResponse = components["schemas"]["QueryResponse"];

/** An answer that isn't what was asked for, with the server's sentence. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  let res: Response;
  try {
    res = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new Refused(0, "The server can't be reached; this page tries again by itself.");
  }
  const json: unknown = res.status === 204 ? null : await res.json().catch(() => null);
  if (!res.ok) {
    const sentence = (json as components["schemas"]["Error"] | null)?.error;
    throw new Refused(res.status, sentence ?? `The server answered ${res.status}; try again in a moment.`);
  }
  return json as T;
}

export interface Loaded<T> {
  data: T | null;
  error: Refused | null;
  loading: boolean;
}

const RETRY = 5_000;

/** Loads and keeps what was there while new data is on its way or can't be had. A null key loads nothing. */
export function useLoad<T>(
  key: string | null,
  load: (signal: AbortSignal) => Promise<T>,
  refresh = 0,
): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>({ data: null, error: null, loading: true });
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for all that load depends on
  useEffect(() => {
    if (key === null) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = () => {
      if (document.hidden) timer = setTimeout(again, refresh);
      else run();
    };
    const run = () => {
      setState((s) => ({ ...s, loading: true }));
      load(abort.signal).then(
        (data) => {
          setState({ data, error: null, loading: false });
          if (refresh) timer = setTimeout(again, refresh);
        },
        (e: unknown) => {
          if (abort.signal.aborted) return;
          const error = e instanceof Refused ? e : new Refused(0, String(e));
          setState((s) => ({ ...s, error, loading: false }));
          if (error.status === 0 || error.status === 429 || error.status >= 500)
            timer = setTimeout(run, RETRY);
        },
      );
    };
    run();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, refresh]);
  return state;
}

export const query = (q: QueryRequest, signal?: AbortSignal) =>
  call<QueryResponse>("POST", "/api/v2/query", q, signal);

export function useQuery(q: QueryRequest | null, refresh = 0): Loaded<QueryResponse> {
  return useLoad(q && JSON.stringify(q), (signal) => query(q as QueryRequest, signal), refresh);
}
