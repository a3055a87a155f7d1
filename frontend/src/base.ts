/**
 * The path below which the server is, "/" or as "/stats/": that of the page's base element, which the server
 * sets.
 */
export function basePath(): string {
  const base = typeof document === "undefined" ? null : document.querySelector("base");
  return base ? new URL(base.href).pathname : "/";
}

/** The address of a path of the server, as `/api/v1/session`, for requests. */
export const serverPath = (path: string): string => basePath() + path.slice(1);

/** The whole address of a path of the server, to show and to copy. */
export const serverUrl = (path: string): string => location.origin + serverPath(path);

/** The path of an address of the dashboard, without the base path. */
export function withoutBase(path: string): string {
  const base = basePath();
  if (`${path}/` === base) return "/";
  return path.startsWith(base) ? `/${path.slice(base.length)}` : path;
}
