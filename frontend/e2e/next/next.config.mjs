// Rewrites lead the dashboard's paths to Nowcast, so that the browser needs a single origin.
const nowcast = process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080";

export default {
  turbopack: { root: import.meta.dirname },
  rewrites: async () => [{ source: "/:path*", destination: `${nowcast}/:path*` }],
};
