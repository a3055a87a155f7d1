import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import type { ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the dashboard and passes API requests on to a running nowcast.
const nowcast: ProxyOptions = {
  target: process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080",
  configure: (proxy) => {
    // Vite keeps the browser's connection open when nowcast's breaks: a live stream would look silent.
    proxy.on("proxyRes", (upstream, _request, response) => {
      upstream.once("close", () => upstream.complete || response.destroy());
    });
  },
};

export default defineConfig({
  base: "./", // relative to the page's base element
  plugins: [tailwindcss()],
  build: {
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: { host: "127.0.0.1", proxy: { "^/(api/|js/|(login|logout|pixel\\.gif)(\\?|$))": nowcast } },
  test: {
    include: ["src/**/*.test.{ts,tsx}", "tracker/**/*.test.ts"],
    // jsdom has no canvas.
    alias: [
      { find: /^uplot$/, replacement: fileURLToPath(new URL("src/testing/fake-uplot.ts", import.meta.url)) },
    ],
    testTimeout: 30_000, // a test of a whole page takes seconds on a busy machine
  },
});
