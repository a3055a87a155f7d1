import { type ReactNode, useEffect, useRef } from "react";
import { classes } from "../classes";

const frame = classes(
  "m-auto max-h-[85vh] w-[min(560px,calc(100vw-24px))] overflow-auto p-0",
  "rounded-lg border border-line bg-card text-ink backdrop:bg-black/40",
);

/** A modal dialog. Escape and a click on the backdrop close it. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
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
      onClose={onClose}
      onClick={(e) => e.target === ref.current && ref.current?.close()}
      className={frame}
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
