import { useEffect, useMemo, useRef, useState } from "react";
import { serverPath } from "../base";
import { follow } from "./follow";
import type { Filter } from "./model";
import { initialLive, type Live, type Options } from "./stream";

/** Follows a site while the component is mounted, and renders at most once per animation frame. */
export function useLive(site: string, filter?: Filter): Live & { retryNow: () => void } {
  return useStream({ sites: [site], filter });
}

/** Follows the visitors of up to 50 sites on one connection, one frame a second each, without lists. */
export function useLiveSites(sites: readonly string[]): Live {
  return useStream({ sites, rate: "1s", top: 0 });
}

function useStream(requested: Options): Live & { retryNow: () => void } {
  const key = JSON.stringify(requested);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for all options
  const options = useMemo<Options>(() => ({ ...requested, server: serverPath("/").slice(0, -1) }), [key]);
  const [live, setLive] = useState<Live>(() => initialLive(options));
  const retryNow = useRef(() => {});
  useEffect(() => {
    let latest: Live | null = null;
    let animationFrame = 0;
    const render = () => {
      animationFrame = 0;
      if (latest) setLive(latest);
    };
    setLive(initialLive(options));
    const stream = follow(options, (l) => {
      latest = l;
      // A hidden tab gets no animation frames.
      if (document.hidden) render();
      else if (!animationFrame) animationFrame = requestAnimationFrame(render);
    });
    retryNow.current = stream.retryNow;
    return () => {
      cancelAnimationFrame(animationFrame);
      stream.stop();
    };
  }, [options]);
  return { ...live, retryNow: () => retryNow.current() };
}
