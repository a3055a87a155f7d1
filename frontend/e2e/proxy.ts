import { execFile, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { freePort, terminate, waitUntilReady } from "./process";

const frontend = resolve(import.meta.dirname, "..");
const next = resolve(import.meta.dirname, "next");

/** A running reverse proxy in front of Nowcast. */
export interface ReverseProxy {
  url: string;
  stop(): Promise<void>;
}

const STOP_TIMEOUT = 5_000; // ms

async function start(
  url: string,
  command: string,
  args: string[],
  cwd: string,
  env: object = {},
  base = "",
): Promise<ReverseProxy> {
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = () => terminate(child, "SIGTERM", STOP_TIMEOUT);
  try {
    await waitUntilReady(`${url}${base}/api/v1/session`, child, 20_000);
  } catch (e) {
    await stop();
    throw e;
  }
  return { url, stop };
}

function nginxBinary(): string {
  const binary = [
    process.env.NGINX,
    "/usr/sbin/nginx",
    "/usr/local/sbin/nginx",
    "/opt/homebrew/bin/nginx",
  ].find((p) => p && existsSync(p));
  if (!binary) throw new Error("no nginx: apt-get install -y nginx-light, or set NGINX to its path");
  return binary;
}

/** nginx with a server block, at a port. */
async function startNginx(port: number, conf: string, base = ""): Promise<ReverseProxy> {
  const dir = mkdtempSync(join(tmpdir(), "nowcast-nginx-"));
  chmodSync(dir, 0o755); // nginx started by root runs its worker as another user
  writeFileSync(join(dir, "nowcast.conf"), conf);
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((t) => `${t}_temp_path ${dir}/${t};`)
    .join(" ");
  writeFileSync(
    join(dir, "nginx.conf"),
    `daemon off; pid ${dir}/pid; error_log stderr; events {}
    http { access_log off; ${temp} include ${dir}/nowcast.conf; }`,
  );
  const args = ["-e", "stderr", "-p", dir, "-c", `${dir}/nginx.conf`];
  const proxy = await start(`http://127.0.0.1:${port}`, nginxBinary(), args, dir, {}, base);
  return { ...proxy, stop: () => proxy.stop().finally(() => rmSync(dir, { recursive: true, force: true })) };
}

/** nginx with the configuration that deployments/ ships, at other addresses. */
export async function nginx(nowcast: string): Promise<ReverseProxy> {
  const port = await freePort();
  const { host } = new URL(nowcast);
  let conf = readFileSync(resolve(frontend, "../deployments/nginx/nowcast.conf"), "utf8");
  for (const [from, to] of [
    ["ingest:8080", host],
    ["streamer-1:8080", host],
    ["streamer-2:8080", host],
    ["listen 8080;", `listen 127.0.0.1:${port};`],
    // node's pipes are sockets, which can't be opened as files
    ["access_log /dev/stdout", "access_log access.log"],
    ["error_log /dev/stderr", "error_log stderr"],
  ] as const) {
    if (!conf.includes(from)) throw new Error(`nowcast.conf has no ${from}: update this test`);
    conf = conf.replace(from, to);
  }
  return startNginx(port, conf);
}

/** nginx that serves Nowcast below a path of a site; it strips the path, or passes it on. */
export async function nginxBelow(
  port: number,
  base: string,
  nowcast: string,
  strips: boolean,
): Promise<ReverseProxy> {
  const conf = `server {
    listen 127.0.0.1:${port};
    location / { return 200 "the shop"; }
    location ${base}/ {
      proxy_pass ${nowcast}${strips ? "/" : ""};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
    }
  }`;
  return startNginx(port, conf, base);
}

/** Vite's dev server, as `npm run dev` starts it. */
export async function vite(nowcast: string): Promise<ReverseProxy> {
  const port = await freePort();
  const args = [join(frontend, "node_modules/vite/bin/vite.js"), "--port", String(port), "--strictPort"];
  return start(`http://127.0.0.1:${port}`, process.execPath, args, frontend, { NOWCAST_SERVER: nowcast });
}

/** A Next.js app, built for production, whose rewrites lead to Nowcast, below a path if one is given. */
export async function nextjs(nowcast: string, port = 0, base = ""): Promise<ReverseProxy> {
  const binary = join(next, "node_modules/next/dist/bin/next");
  if (!existsSync(binary))
    throw new Error("no Next.js: run npm --prefix frontend/e2e/next ci, as make test-browser does");
  port ||= await freePort();
  const env = {
    NOWCAST_SERVER: nowcast,
    NOWCAST_BASE: base,
    NEXT_TELEMETRY_DISABLED: "1",
    NODE_ENV: "production",
  };
  await promisify(execFile)(process.execPath, [binary, "build"], {
    cwd: next,
    env: { ...process.env, ...env },
  });
  const args = [binary, "start", "-H", "127.0.0.1", "-p", String(port)];
  return start(`http://127.0.0.1:${port}`, process.execPath, args, next, env, base);
}
