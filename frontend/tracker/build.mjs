// Builds the tracker into frontend/dist/script.js. Fails if it has 1,024 bytes or more, gzipped.
import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const BUDGET = 1024; // bytes gzipped, exclusive
const directory = new URL(".", import.meta.url);

/** Bundles the tracker as the server sends it. */
export async function bundle() {
  const out = await build({
    entryPoints: [fileURLToPath(new URL("tracker.ts", directory))],
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2021",
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  const script = out.outputFiles[0].text.trim();
  return { script, gzipped: gzipSync(script, { level: 9 }).length, budget: BUDGET };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { script, gzipped } = await bundle();
  const dist = new URL("../dist/", directory);
  await mkdir(dist, { recursive: true });
  await writeFile(new URL("script.js", dist), script);
  console.log(`tracker: ${script.length} bytes, ${gzipped} gzipped (budget: under ${BUDGET})`);
  if (gzipped >= BUDGET) {
    console.error(`tracker: over its budget of ${BUDGET - 1} bytes gzipped`);
    process.exit(1);
  }
}
