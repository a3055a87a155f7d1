// Fails if the dashboard's JavaScript exceeds 150 KiB gzipped. Deletes the assets of earlier builds.
import { readdirSync, readFileSync, unlinkSync } from "node:fs";
import { gzipSync } from "node:zlib";

const BUDGET = 150 * 1024; // bytes
const dist = new URL("dist/", import.meta.url);
const page = readFileSync(new URL("index.html", dist), "utf8");
let total = 0;
const assets = new URL("assets/", dist);
const files = readdirSync(assets).map((name) => [name, readFileSync(new URL(name, assets))]);
for (const [name, bytes] of files) {
  const used =
    page.includes(name) ||
    files.some(([other, b]) => other !== name && page.includes(other) && b.includes(name));
  if (!used) unlinkSync(new URL(name, assets));
  else if (name.endsWith(".js")) total += gzipSync(bytes, { level: 9 }).length;
}
console.log(`dashboard: ${total} bytes of JavaScript gzipped (budget: ${BUDGET})`);
if (total > BUDGET) process.exit(1);
