/** Bundles the tracker. Sizes are in bytes; `budget` is exclusive. */
export function bundle(): Promise<{ script: string; gzipped: number; budget: number }>;
