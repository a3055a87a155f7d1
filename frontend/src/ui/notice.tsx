import type { ReactNode } from "react";

/** A message in the page. An error is announced to screen readers. */
export function Notice({ children, kind = "info" }: { children: ReactNode; kind?: "info" | "error" }) {
  const isError = kind === "error";
  return (
    <p
      role={isError ? "alert" : undefined}
      className={`rounded-md border px-3 py-2 ${isError ? "border-bad text-bad" : "border-line text-soft"}`}
    >
      {children}
    </p>
  );
}
