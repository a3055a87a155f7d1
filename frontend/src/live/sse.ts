/** One message of an event stream. The id is the newest that the stream has said, with this message or before it. */
export interface Message {
  event: string;
  id: string;
  data: string;
}

/** The longest line that is taken. A snapshot is under 100 KB; what has no line breaks at all is no event stream. */
const LONGEST_LINE = 4 << 20;

/**
 * Reads text/event-stream as the HTML standard says: https://html.spec.whatwg.org/multipage/server-sent-events.html. The text comes in
 * pieces that may end anywhere.
 */
export class Parser {
  private rest = "";
  private afterReturn = false; // a line feed that comes next belongs to the line before
  private event = "";
  private data: string[] = [];
  private id = "";

  constructor(
    private readonly message: (m: Message) => void,
    private readonly retry: (ms: number) => void,
  ) {}

  push(text: string): void {
    let start = this.afterReturn && text.startsWith("\n") ? 1 : 0;
    if (text !== "") this.afterReturn = false;
    for (let i = start; i < text.length; i++) {
      const c = text[i];
      if (c !== "\n" && c !== "\r") continue;
      this.line(this.rest + text.slice(start, i));
      this.rest = "";
      if (c === "\r") {
        if (text[i + 1] === "\n") i++;
        else this.afterReturn = i + 1 === text.length;
      }
      start = i + 1;
    }
    this.rest += text.slice(start);
    if (this.rest.length > LONGEST_LINE) throw new Error("read event stream: a line has no end");
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0)
        this.message({ event: this.event || "message", id: this.id, data: this.data.join("\n") });
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
    else if (field === "retry" && /^\d+$/.test(value)) this.retry(Number(value));
  }
}
