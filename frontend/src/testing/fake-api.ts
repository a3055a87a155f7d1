import { vi } from "vitest";
import { Server } from "../live/fixtures";

export interface ApiRequest {
  method: string;
  url: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test knows what it sends
  body: any;
}

/** A response by its status, with the server's error message. */
export const failure = (status: number, error?: string) =>
  new Response(error === undefined ? "" : JSON.stringify({ error }), { status });

export const never = () => new Promise<never>(() => {});

type Handler = (r: ApiRequest) => unknown;

/** Replaces fetch: routes answer with JSON, a Response or a rejection, and `stream` serves /api/events. */
export class FakeApi {
  readonly stream = new Server();
  readonly requests: ApiRequest[] = [];
  private readonly routes = new Map<string, Handler>();

  constructor() {
    vi.stubGlobal("fetch", (url: string, init: RequestInit = {}) => this.fetch(url, init));
  }

  /** Answers `METHOD /path`, without the query string; a later handler replaces an earlier one. */
  on(route: string, handler: Handler): this {
    this.routes.set(route, handler);
    return this;
  }

  /** The requests of a route so far. */
  received(route: string): ApiRequest[] {
    return this.requests.filter((r) => routeOf(r) === route);
  }

  private async fetch(url: string, init: RequestInit): Promise<Response> {
    if (url.startsWith("/api/events")) return this.stream.fetch(url, init);
    const body = init.body === undefined ? undefined : JSON.parse(String(init.body));
    const request = { method: init.method ?? "GET", url, body };
    this.requests.push(request);
    const handler = this.routes.get(routeOf(request));
    if (!handler) throw new Error(`no handler of ${routeOf(request)}`);
    const result = await handler(request);
    return result instanceof Response ? result : new Response(JSON.stringify(result));
  }
}

const routeOf = ({ method, url }: ApiRequest) => `${method} ${url.split("?")[0]}`;
