// The dashboard's paths of a Nowcast behind a Next.js app: the browser needs one address only.
const nowcast = process.env.NOWCAST_SERVER ?? "http://127.0.0.1:8080";

export default {
  turbopack: { root: import.meta.dirname },
  rewrites: async () => [{ source: "/:path*", destination: `${nowcast}/:path*` }],
};
