import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { freePort } from "./nowcast";

const frontend = resolve(import.meta.dirname, "..");
const next = resolve(import.meta.dirname, "next");

/** A proxy in front of a Nowcast, as a process of the test's own. */
export interface Front {
  url: string;
  end(): Promise<void>;
}

async function run(
  url: string,
  command: string,
  args: string[],
  cwd: string,
  env: object = {},
): Promise<Front> {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  const keep = (b: Buffer) => {
    log = (log + b.toString()).slice(-8000);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const deadline = Date.now() + 20_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${command} ended:\n${log}`);
    const ok = await fetch(`${url}/api/v1/session`, { signal: AbortSignal.timeout(2_000) }).then(
      (r) => r.ok,
      () => false,
    );
    if (ok) break;
    if (Date.now() > deadline) {
      await ended(child);
      throw new Error(`${command} isn't ready:\n${log}`);
    }
    await new Promise((r) => setTimeout(r, 50));
  }
  return { url, end: () => ended(child) };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((r) => child.once("exit", r));
  child.kill("SIGTERM");
  const force = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await gone;
  clearTimeout(force);
}

/** The file that is shipped, with other addresses. */
export async function nginx(nowcast: string): Promise<Front> {
  const binary = [
    process.env.NGINX,
    "/usr/sbin/nginx",
    "/usr/local/sbin/nginx",
    "/opt/homebrew/bin/nginx",
  ].find((p) => p && existsSync(p));
  if (!binary) throw new Error("no nginx: apt-get install -y nginx-light, or say where it is by NGINX=");
  const port = await freePort();
  const { host } = new URL(nowcast);
  let conf = readFileSync(resolve(frontend, "../deployments/nginx/nowcast.conf"), "utf8");
  for (const [from, to] of [
    ["ingest:8080", host],
    ["streamer-1:8080", host],
    ["streamer-2:8080", host],
    ["listen 8080;", `listen 127.0.0.1:${port};`],
  ] as const) {
    if (!conf.includes(from)) throw new Error(`nowcast.conf has no ${from} any more: mend this test`);
    conf = conf.replace(from, to);
  }
  const dir = mkdtempSync(join(tmpdir(), "nowcast-nginx-"));
  chmodSync(dir, 0o755); // its worker is somebody else when it is started by root
  writeFileSync(join(dir, "nowcast.conf"), conf);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((t) => `${t}_temp_path ${dir}/${t};`)
    .join(" ");
  writeFileSync(
    join(dir, "nginx.conf"),
    `daemon off; pid ${dir}/pid; error_log stderr; events {} http { access_log off; ${temp} include ${dir}/nowcast.conf; }`,
  );
  const proxy = await run(
    `http://127.0.0.1:${port}`,
    binary,
    ["-e", "stderr", "-p", dir, "-c", `${dir}/nginx.conf`],
    dir,
  );
  return { ...proxy, end: () => proxy.end().finally(() => rmSync(dir, { recursive: true, force: true })) };
}

/** `npm run dev`. */
export async function vite(nowcast: string): Promise<Front> {
  const port = await freePort();
  const args = [join(frontend, "node_modules/vite/bin/vite.js"), "--port", String(port), "--strictPort"];
  return run(`http://127.0.0.1:${port}`, process.execPath, args, frontend, { NOWCAST_SERVER: nowcast });
}

/** An app of Next.js, built for production, with Nowcast behind its rewrites. */
export async function nextjs(nowcast: string): Promise<Front> {
  const binary = join(next, "node_modules/next/dist/bin/next");
  if (!existsSync(binary))
    throw new Error("no Next.js: run npm --prefix frontend/e2e/next ci, as make test-browser does");
  const port = await freePort();
  const env = { NOWCAST_SERVER: nowcast, NEXT_TELEMETRY_DISABLED: "1", NODE_ENV: "production" };
  await promisify(execFile)(process.execPath, [binary, "build"], {
    cwd: next,
    env: { ...process.env, ...env },
  });
  const args = [binary, "start", "-H", "127.0.0.1", "-p", String(port)];
  return run(`http://127.0.0.1:${port}`, process.execPath, args, next, env);
}
