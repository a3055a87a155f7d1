import { type AnchorHTMLAttributes, type ReactNode, useEffect, useRef, useState } from "react";
import { country } from "../format";
import { go } from "../route";

/** A link inside the dashboard: no page load, but still a link that opens in a new tab. */
export function Link({
  href,
  children,
  onClick,
  ...rest
}: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }) {
  return (
    <a
      href={href}
      onClick={(e) => {
        onClick?.(e);
        if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
        e.preventDefault();
        go(href);
      }}
      {...rest}
    >
      {children}
    </a>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return;
    const t = setTimeout(() => setDone(false), 2_000);
    return () => clearTimeout(t);
  }, [done]);
  return (
    <button
      type="button"
      className="button"
      onClick={() => navigator.clipboard.writeText(text).then(() => setDone(true))}
    >
      {done ? "Copied" : label}
    </button>
  );
}

export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div className="flex flex-col gap-2">
      <div className="flex items-center justify-between gap-2">
        <span className="font-medium">{label}</span>
        <Copy text={text} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard has to reach it */}
      <pre className="code" tabIndex={0}>
        {text}
      </pre>
    </div>
  );
}

/** A dialog over the page; Escape and a click beside it close it. */
export function Dialog({
  title,
  close,
  children,
}: {
  title: string;
  close: () => void;
  children: ReactNode;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    ref.current?.showModal();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog by itself
    <dialog
      ref={ref}
      aria-label={title}
      onClose={close}
      onClick={(e) => e.target === ref.current && ref.current?.close()}
      className="m-auto w-[min(560px,calc(100vw-24px))] max-h-[85vh] overflow-auto rounded-lg border border-line bg-card p-0 text-ink backdrop:bg-black/40"
    >
      <div className="sticky top-0 flex items-center justify-between border-b border-line bg-card px-4 py-3">
        <h2 className="text-lg font-semibold">{title}</h2>
        <button type="button" className="quiet px-2 py-1" onClick={() => ref.current?.close()}>
          Close
        </button>
      </div>
      <div className="p-4">{children}</div>
    </dialog>
  );
}

export function Notice({ children, kind = "soft" }: { children: ReactNode; kind?: "soft" | "bad" }) {
  return (
    <p
      role={kind === "bad" ? "alert" : undefined}
      className={`rounded-md border px-3 py-2 ${kind === "bad" ? "border-bad text-bad" : "border-line text-soft"}`}
    >
      {children}
    </p>
  );
}

/** A country by code and name. A flag would be a box or two letters wherever the fonts lack it. */
export function Country({ code }: { code: string }) {
  return (
    <>
      <span aria-hidden className="mr-2 inline-block w-5 text-xs text-soft">
        {/^[A-Z]{2}$/.test(code) ? code : "–"}
      </span>
      {country(code)}
    </>
  );
}
