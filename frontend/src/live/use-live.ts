import { useEffect, useRef, useState } from "react";
import { empty } from "./model";
import { type Live, LiveStream } from "./stream";

/** Follows a site live while the component is on the page. It draws at most once a frame of the screen. */
export function useLive(site: string): Live & { again: () => void } {
  const [live, setLive] = useState<Live>({ model: empty, connection: { state: "connecting" }, delay: null });
  const stream = useRef<LiveStream | null>(null);
  useEffect(() => {
    let latest: Live | null = null;
    let frame = 0;
    const draw = () => {
      frame = 0;
      if (latest) setLive(latest);
    };
    setLive({ model: empty, connection: { state: "connecting" }, delay: null });
    const s = new LiveStream(site, (l) => {
      latest = l;
      if (document.hidden) draw();
      else if (!frame) frame = requestAnimationFrame(draw);
    });
    stream.current = s;
    const visibility = () => s.setHidden(document.hidden);
    const online = () => s.again();
    document.addEventListener("visibilitychange", visibility);
    window.addEventListener("online", online);
    s.start();
    return () => {
      document.removeEventListener("visibilitychange", visibility);
      window.removeEventListener("online", online);
      cancelAnimationFrame(frame);
      s.stop();
    };
  }, [site]);
  return { ...live, again: () => stream.current?.again() };
}
