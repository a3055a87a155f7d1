/** The tracker as it is served, its size gzipped and the size that it has to stay under, in bytes. */
export function bundle(): Promise<{ script: string; gzipped: number; budget: number }>;
