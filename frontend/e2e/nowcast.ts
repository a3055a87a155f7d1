import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { Page } from "@playwright/test";
import { freePort, terminate, waitUntilReady } from "./process";

const binary = process.env.NOWCAST_BIN ?? resolve(import.meta.dirname, "../../bin/nowcast");

/** The User-Agent of a person's browser: a headless one names itself, and is dropped as a bot. */
export const BROWSER_USER_AGENT =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/** A `nowcast all` with its own data directory and fixed ports, so that a test can kill and restart it. */
export class Nowcast {
  readonly dir = mkdtempSync(join(tmpdir(), "nowcast-browser-"));
  private child?: ChildProcess;

  private constructor(
    private readonly listen: number,
    private readonly ops: number,
    private readonly flags: string[],
  ) {}

  static async start(...flags: string[]): Promise<Nowcast> {
    if (!existsSync(binary)) throw new Error(`no ${binary}: run make build first`);
    const n = new Nowcast(await freePort(), await freePort(), flags);
    await n.up();
    return n;
  }

  get url(): string {
    return `http://127.0.0.1:${this.listen}`;
  }

  get key(): string {
    return readFileSync(join(this.dir, "admin.key"), "utf8").trim();
  }

  /** Logs the page's browser in as an admin, by the form. */
  async logIn(page: Page): Promise<void> {
    await page.goto(`${this.url}/login`);
    await page.getByLabel("Key or login code").fill(this.key);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL(`${this.url}/`);
  }

  /** Runs a command of the program against this server, and returns what it prints. */
  async command(...args: string[]): Promise<string> {
    const all = [...args, "--server", this.url, "--data-dir", this.dir];
    return (await promisify(execFile)(binary, all)).stdout;
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
        ...this.flags,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.child = child;
    await waitUntilReady(`http://127.0.0.1:${this.ops}/readyz`, child, 60_000);
  }

  async down(signal: NodeJS.Signals): Promise<void> {
    if (this.child) await terminate(this.child, signal);
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
    const r = await this.api("POST", "/api/v1/sites", { domain, public: true, listed: true });
    if (r.status !== 201) throw new Error(`add site: ${r.status} ${await r.text()}`);
  }

  /** Sends a page view. Each number is another visitor. */
  async view(site: string, path: string, visitor: number, referrer = ""): Promise<void> {
    const r = await fetch(`${this.url}/api/event`, {
      method: "POST",
      headers: { "User-Agent": `${BROWSER_USER_AGENT} V/${visitor}` },
      body: JSON.stringify({ n: "pageview", d: site, u: `https://${site}${path}`, r: referrer }),
    });
    if (r.status !== 202 || r.headers.has("x-plausible-dropped")) throw new Error(`beacon: ${r.status}`);
  }
}

/** Serves a website on another origin, as a customer's is. */
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
