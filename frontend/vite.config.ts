import tailwindcss from "@tailwindcss/vite";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the dashboard with the API of a running nowcast behind it.
const server = process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [tailwindcss()],
  build: { emptyOutDir: false, modulePreload: { polyfill: false }, assetsInlineLimit: 0, reportCompressedSize: true },
  server: { host: "127.0.0.1", proxy: { "/api": server, "/login": server, "/logout": server, "/js": server } },
  test: { include: ["src/**/*.test.{ts,tsx}", "tracker/**/*.test.ts"] },
});
