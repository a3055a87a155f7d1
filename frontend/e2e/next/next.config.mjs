// Rewrites lead the dashboard's paths to Nowcast, so that the browser needs a single origin. Below a path of
// the app, as /stats, Nowcast is started with --public-url https://app.example.com/stats.
const nowcast = process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080";
const base = process.env.NOWCAST_BASE ?? "";

export default {
  turbopack: { root: import.meta.dirname },
  rewrites: async () => [{ source: `${base}/:path*`, destination: `${nowcast}${base}/:path*` }],
};
