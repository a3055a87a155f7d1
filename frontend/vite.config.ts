import tailwindcss from "@tailwindcss/vite";
import type { ProxyOptions } from "vite";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the dashboard with the API of a running nowcast behind it.
const nowcast: ProxyOptions = {
  target: process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080",
  configure: (proxy) => {
    // When nowcast dies in the middle of an answer, Vite would leave the browser's open: a live stream would look silent, not broken.
    proxy.on("proxyRes", (from, _request, to) => {
      from.once("close", () => from.complete || to.destroy());
    });
  },
};

export default defineConfig({
  plugins: [tailwindcss()],
  build: {
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: { host: "127.0.0.1", proxy: { "^/(api/|js/|(login|logout|pixel\\.gif)(\\?|$))": nowcast } },
  test: { include: ["src/**/*.test.{ts,tsx}", "tracker/**/*.test.ts"] },
});
