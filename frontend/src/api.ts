import { useEffect, useState } from "react";
import type { components } from "./api.gen";
import { serverPath } from "./base";

export type Site = components["schemas"]["Site"];
export type Session = components["schemas"]["Session"];
export type ShareLink = components["schemas"]["Link"];
export type ShareLinkCreated = components["schemas"]["LinkCreated"];
export type Ledger = components["schemas"]["Ledger"];
export type Outcomes = components["schemas"]["Outcomes"];
export type QueryRequest = components["schemas"]["QueryRequest"];
export type QueryResponse = components["schemas"]["QueryResponse"];

/** A failed request. `status` is 0 if there was no response. The message says what to do next. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** The message of whatever a request threw. */
export const errorMessage = (e: unknown): string => (e instanceof ApiError ? e.message : String(e));

/**
 * Sends a request for a path of the server with a JSON body, and returns the JSON of the response. Throws an
 * ApiError.
 */
export async function request<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  let response: Response;
  try {
    response = await fetch(serverPath(path), {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError(0, "The server can't be reached; this page tries again by itself.");
  }
  const json: unknown = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) {
    const message = (json as components["schemas"]["Error"] | null)?.error;
    const fallback = `The server answered ${response.status}; try again in a moment.`;
    throw new ApiError(response.status, message ?? fallback);
  }
  return json as T;
}

export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  loading: boolean;
}

const RETRY_INTERVAL = 5_000; // ms
const isRetryable = ({ status }: ApiError) => status === 0 || status === 429 || status >= 500;

/**
 * Loads data, again every `refresh` ms while the tab is visible (0: once), and after an error that may pass.
 * Older data stays while a request runs or fails. A null key loads nothing.
 */
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
    const runIfVisible = () => {
      if (document.hidden) timer = setTimeout(runIfVisible, refresh);
      else run();
    };
    const run = () => {
      setState((s) => ({ ...s, loading: true }));
      load(abort.signal).then(
        (data) => {
          setState({ data, error: null, loading: false });
          if (refresh) timer = setTimeout(runIfVisible, refresh);
        },
        (e: unknown) => {
          if (abort.signal.aborted) return;
          const error = e instanceof ApiError ? e : new ApiError(0, String(e));
          setState((s) => ({ ...s, error, loading: false }));
          if (isRetryable(error)) timer = setTimeout(run, RETRY_INTERVAL);
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

/** Loads a path of the API by GET. A change of `version` loads it again. */
export function useGet<T>(path: string, version = 0, refresh = 0): Loaded<T> {
  return useLoad(`${path} ${version}`, (signal) => request<T>("GET", path, undefined, signal), refresh);
}

export const query = (q: QueryRequest, signal?: AbortSignal) =>
  request<QueryResponse>("POST", "/api/v2/query", q, signal);

export function useQuery(q: QueryRequest | null, refresh = 0): Loaded<QueryResponse> {
  return useLoad(q && JSON.stringify(q), (signal) => query(q as QueryRequest, signal), refresh);
}
