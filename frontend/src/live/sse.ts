/** A message of an event stream. `id` is the last event id, set by this message or an earlier one. */
export interface Message {
  event: string;
  id: string;
  data: string;
}

/** Limit of a line in UTF-16 units. A snapshot is under 100 KB; a longer line isn't an event stream. */
const MAX_LINE_LENGTH = 4 << 20;

/**
 * Parses text/event-stream by the WHATWG HTML standard
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html). A chunk may end anywhere.
 */
export class Parser {
  private unfinishedLine = "";
  private endedWithReturn = false; // a line feed at the start of the next chunk completes a CRLF
  private event = "";
  private data: string[] = [];
  private id = "";

  constructor(
    private readonly onMessage: (m: Message) => void,
    private readonly onRetry: (ms: number) => void,
  ) {}

  /** Parses the next chunk. Throws if a line exceeds MAX_LINE_LENGTH. */
  push(text: string): void {
    let start = this.endedWithReturn && text.startsWith("\n") ? 1 : 0;
    if (text !== "") this.endedWithReturn = false;
    for (let i = start; i < text.length; i++) {
      const c = text[i];
      if (c !== "\n" && c !== "\r") continue;
      this.parseLine(this.unfinishedLine + text.slice(start, i));
      this.unfinishedLine = "";
      if (c === "\r") {
        if (text[i + 1] === "\n") i++;
        else this.endedWithReturn = i + 1 === text.length;
      }
      start = i + 1;
    }
    this.unfinishedLine += text.slice(start);
    if (this.unfinishedLine.length > MAX_LINE_LENGTH) throw new Error("read event stream: a line has no end");
  }

  private parseLine(line: string): void {
    if (line === "") {
      if (this.data.length > 0)
        this.onMessage({ event: this.event || "message", id: this.id, data: this.data.join("\n") });
      this.event = "";
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.onRetry(Number(value));
  }
}
