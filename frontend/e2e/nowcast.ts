import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const binary = process.env.NOWCAST_BIN ?? resolve(import.meta.dirname, "../../bin/nowcast");

/** A free port below those that the system gives to others, who could take it before it is used or while a test restarts. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 10_000);
    const free = await new Promise<boolean>((done) => {
      const s = createSocket();
      s.once("error", () => done(false));
      s.listen(port, "127.0.0.1", () => s.close(() => done(true)));
    });
    if (free) return port;
  }
}

/** A `nowcast all` of the test's own, on a fresh data dir and fixed ports, so that it can be killed and started again. */
export class Nowcast {
  readonly dir = mkdtempSync(join(tmpdir(), "nowcast-browser-"));
  private child?: ChildProcess;
  private log = "";

  private constructor(
    private readonly listen: number,
    private readonly ops: number,
  ) {}

  static async start(): Promise<Nowcast> {
    if (!existsSync(binary)) throw new Error(`no ${binary}: run make build first`);
    const n = new Nowcast(await freePort(), await freePort());
    await n.up();
    return n;
  }

  get url(): string {
    return `http://127.0.0.1:${this.listen}`;
  }

  get key(): string {
    return readFileSync(join(this.dir, "admin.key"), "utf8").trim();
  }

  get loginUrl(): string {
    return `${this.url}/login?key=${this.key}`;
  }

  async up(): Promise<void> {
    const child = spawn(
      binary,
      [
        "all",
        "--listen",
        `127.0.0.1:${this.listen}`,
        "--ops-listen",
        `127.0.0.1:${this.ops}`,
        "--data-dir",
        this.dir,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.child = child;
    const keep = (b: Buffer) => {
      this.log = (this.log + b.toString()).slice(-8000);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    const end = Date.now() + 60_000;
    for (;;) {
      if (child.exitCode !== null) throw new Error(`nowcast ended:\n${this.log}`);
      const ok = await fetch(`http://127.0.0.1:${this.ops}/readyz`).then(
        (r) => r.ok,
        () => false,
      );
      if (ok) return;
      if (Date.now() > end) throw new Error(`nowcast isn't ready:\n${this.log}`);
      await new Promise((r) => setTimeout(r, 50));
    }
  }

  async down(signal: NodeJS.Signals): Promise<void> {
    const child = this.child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((r) => child.once("exit", r));
    child.kill(signal);
    await gone;
  }

  async end(): Promise<void> {
    await this.down("SIGTERM");
    rmSync(this.dir, { recursive: true, force: true });
  }

  async api(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${this.key}`, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  async addSite(domain: string): Promise<void> {
    const r = await this.api("POST", "/api/v1/sites", { domain, public: true });
    if (r.status !== 201) throw new Error(`add site: ${r.status} ${await r.text()}`);
  }

  /** One page view by a visitor of its own number. */
  async view(site: string, path: string, visitor: number, referrer = ""): Promise<void> {
    const r = await fetch(`${this.url}/api/event`, {
      method: "POST",
      headers: {
        "User-Agent": `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 V/${visitor}`,
      },
      body: JSON.stringify({ n: "pageview", d: site, u: `https://${site}${path}`, r: referrer }),
    });
    if (r.status !== 202 || r.headers.has("x-plausible-dropped")) throw new Error(`beacon: ${r.status}`);
  }
}

/** A website on another origin, as a customer's would be. */
export async function website(pages: Record<string, string>): Promise<{ origin: string; close: () => void }> {
  const server: Server = createServer((req, res) => {
    const page = pages[(req.url ?? "/").split("?")[0] ?? "/"];
    res.writeHead(page === undefined ? 404 : 200, { "Content-Type": "text/html" });
    res.end(page ?? "no such page");
  });
  await new Promise<void>((r) => server.listen(0, "127.0.0.1", r));
  const { port } = server.address() as AddressInfo;
  return { origin: `http://localhost:${port}`, close: () => server.closeAllConnections() ?? server.close() };
}
