import { useEffect, useMemo, useRef, useState } from "react";
import { follow } from "./follow";
import type { Filter } from "./model";
import { type Live, type Options, waiting } from "./stream";

/** Follows a site live while the component is on the page. It draws at most once a frame of the screen. */
export function useLive(site: string, filter?: Filter): Live & { again: () => void } {
  return useStream({ sites: [site], filter });
}

/** Follows the numbers of up to 50 sites on one connection, a second each. */
export function useWall(sites: readonly string[]): Live {
  return useStream({ sites, rate: "1s", top: 0 });
}

function useStream(wanted: Options): Live & { again: () => void } {
  const key = JSON.stringify(wanted);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for all that is wanted
  const options = useMemo<Options>(() => wanted, [key]);
  const [live, setLive] = useState<Live>(() => waiting(options));
  const again = useRef(() => {});
  useEffect(() => {
    let latest: Live | null = null;
    let frame = 0;
    const draw = () => {
      frame = 0;
      if (latest) setLive(latest);
    };
    setLive(waiting(options));
    const stream = follow(options, (l) => {
      latest = l;
      if (document.hidden) draw();
      else if (!frame) frame = requestAnimationFrame(draw);
    });
    again.current = stream.again;
    return () => {
      cancelAnimationFrame(frame);
      stream.stop();
    };
  }, [options]);
  return { ...live, again: () => again.current() };
}
