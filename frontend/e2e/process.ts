import type { ChildProcess } from "node:child_process";
import { createServer } from "node:net";

/** A free port below the ephemeral range, so that no other process gets it before use or during a restart. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 10_000);
    const free = await new Promise<boolean>((done) => {
      const s = createServer();
      s.once("error", () => done(false));
      s.listen(port, "127.0.0.1", () => s.close(() => done(true)));
    });
    if (free) return port;
  }
}

/** Keeps the end of a process's output, for error messages. */
function captureOutput(child: ChildProcess): () => string {
  let output = "";
  const append = (b: Buffer) => {
    output = (output + b.toString()).slice(-8000);
  };
  child.stdout?.on("data", append);
  child.stderr?.on("data", append);
  return () => output;
}

/** Polls a URL of a process until it answers 200, and is /readyz without what is degraded. Throws when the process exits or the deadline passes. */
export async function waitUntilReady(url: string, child: ChildProcess, timeoutMs: number): Promise<void> {
  const output = captureOutput(child);
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} exited:\n${output()}`);
    const ready = await fetch(url, { signal: AbortSignal.timeout(2_000) }).then(
      async (r) => r.ok && !(await r.text()).includes('"degraded":{"'),
      () => false,
    );
    if (ready) return;
    if (Date.now() > deadline) throw new Error(`${child.spawnfile} isn't ready:\n${output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Sends a signal and waits for the exit; without one in time, it kills the process. */
export async function terminate(
  child: ChildProcess,
  signal: NodeJS.Signals,
  killAfterMs?: number,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  await exit;
  clearTimeout(timer);
}
