/** Formats rows as CSV by RFC 4180. An apostrophe keeps spreadsheets from running a cell as a formula. */
export function toCsv(rows: (string | number | null)[][]): string {
  const cell = (x: string | number | null) => {
    let s = x === null ? "" : String(x);
    if (typeof x === "string" && /^[=+\-@\t\r]/.test(s)) s = `'${s}`;
    return /[",\r\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s;
  };
  return `${rows.map((r) => r.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** Lets the browser save a CSV file. */
export function downloadCsv(name: string, rows: (string | number | null)[][]): void {
  const url = URL.createObjectURL(new Blob([toCsv(rows)], { type: "text/csv;charset=utf-8" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  // The browser reads the URL after the click.
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}
