export function Logo() {
  return (
    <svg aria-hidden="true" width="24" height="24" viewBox="0 0 32 32" className="text-accent">
      <rect width="32" height="32" rx="7" fill="currentColor" />
      <path
        d="M7 21v-4M12 21v-8M17 21V9"
        stroke="var(--on-accent)"
        strokeWidth="3"
        strokeLinecap="round"
        fill="none"
      />
      <circle cx="24" cy="11" r="3" fill="var(--on-accent)" />
    </svg>
  );
}

const outline = {
  width: 16,
  height: 16,
  viewBox: "0 0 16 16",
  fill: "none",
  stroke: "currentColor",
  strokeWidth: 1.5,
} as const;

export function Moon() {
  return (
    <svg aria-hidden="true" {...outline}>
      <path d="M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z" strokeLinejoin="round" />
    </svg>
  );
}

export function Sun() {
  return (
    <svg aria-hidden="true" {...outline} strokeLinecap="round">
      <circle cx="8" cy="8" r="3" />
      <path d="M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1" />
    </svg>
  );
}

export function ChevronDown() {
  return (
    <svg aria-hidden="true" width="10" height="10" viewBox="0 0 10 10" className="shrink-0 text-soft">
      <path
        d="M2 3.5 5 6.5 8 3.5"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.5"
        strokeLinecap="round"
      />
    </svg>
  );
}
