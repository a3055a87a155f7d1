/** Frames and a fake server for tests. */
import type { Frame, Snapshot } from "./model";

export const T = 1_795_435_200;
export const iso = (s: number) => new Date(s * 1000).toISOString();

export const sec = (at: number, n: number, final = true, revision = n) => ({
  at: iso(at),
  pageviews: n,
  visitors: n,
  events: n,
  final,
  revision,
});

export const frame = (at: number, n: number, final = true): Frame => ({
  visitors: n,
  timestamp: iso(final ? at + 1 : at + 0.5),
  site: "x",
  second: sec(at, n, final),
  skipped: 0,
});

/** A merged frame of the seconds from, …, to. */
export const mergedFrame = (from: number, to: number, n: number): Frame => ({
  ...frame(to, n),
  second: { ...sec(to, n), from: iso(from), to: iso(to) },
});

export const snapshot = (at: number, seconds: ReturnType<typeof sec>[]): Snapshot => ({
  ...frame(at, 0),
  seconds,
});

/** A request to the fake server, and its open response. */
export class Request {
  readonly query: URLSearchParams;
  private out: ReadableStreamDefaultController<Uint8Array> | undefined;
  readonly body = new ReadableStream<Uint8Array>({
    start: (c) => {
      this.out = c;
    },
  });
  constructor(
    readonly url: string,
    readonly init: RequestInit,
  ) {
    this.query = new URL(url, "http://x").searchParams;
    init.signal?.addEventListener("abort", () => this.fail());
  }
  get closed() {
    return this.init.signal?.aborted === true;
  }
  text(s: string) {
    this.out?.enqueue(new TextEncoder().encode(s));
  }
  frame(f: Frame, id = `1-${Math.floor(Date.parse(f.second?.at ?? f.timestamp) / 1000)}-0`) {
    this.text(`id: ${id}\ndata: ${JSON.stringify(f)}\n\n`);
  }
  snapshot(f: Snapshot, id = `1-${Math.floor(Date.parse(f.second?.at ?? f.timestamp) / 1000)}-0`) {
    this.text(`event: snapshot\nid: ${id}\ndata: ${JSON.stringify(f)}\n\n`);
  }
  reset() {
    this.text("event: reset\ndata: {}\n\n");
  }
  end() {
    this.out?.close();
  }
  /** Breaks the connection. */
  fail() {
    this.out?.error(new TypeError("network"));
  }
}

/** A server that responds with a status, with nothing ("mute"), or not at all ("away"). */
export class Server {
  readonly requests: Request[] = [];
  status: number | "away" | "mute" = 200;
  headers: Record<string, string> = {};
  type = "text/event-stream";

  fetch(url: string, init: RequestInit): Promise<Response> {
    const r = new Request(url, init);
    this.requests.push(r);
    if (this.status === "away") return Promise.reject(new TypeError("network"));
    if (this.status === "mute")
      return new Promise((_, reject) =>
        init.signal?.addEventListener("abort", () => reject(new Error("aborted"))),
      );
    const headers = { "Content-Type": this.type, ...this.headers };
    return Promise.resolve(
      new Response(this.status === 204 ? null : r.body, { status: this.status, headers }),
    );
  }

  get last(): Request {
    const r = this.requests.at(-1);
    if (!r) throw new Error("no request yet");
    return r;
  }
}
