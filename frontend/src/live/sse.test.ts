import { expect, test } from "vitest";
import { type Message, Parser } from "./sse";

const read = (pieces: string[]) => {
  const messages: Message[] = [];
  const retries: number[] = [];
  const p = new Parser(
    (m) => messages.push(m),
    (ms) => retries.push(ms),
  );
  for (const x of pieces) p.push(x);
  return { messages, retries };
};

test.each<[string, string, Message[]]>([
  ["data only", "data: a\n\n", [{ event: "message", id: "", data: "a" }]],
  [
    "all fields",
    "event: snapshot\nid: 1-2-0\ndata: {}\n\n",
    [{ event: "snapshot", id: "1-2-0", data: "{}" }],
  ],
  ["several lines", "data: a\ndata:b\ndata\n\n", [{ event: "message", id: "", data: "a\nb\n" }]],
  ["one space after the colon is removed", "data:  a\n\n", [{ event: "message", id: "", data: " a" }]],
  ["comments and unknown fields", ": hb\n\nfoo: bar\ndata: a\n\n", [{ event: "message", id: "", data: "a" }]],
  ["no message without data", "event: x\nid: 7\n\ndata: a\n\n", [{ event: "message", id: "7", data: "a" }]],
  [
    "an id applies to later messages",
    "id: 7\ndata: a\n\ndata: b\n\n",
    ["a", "b"].map((data) => ({ event: "message", id: "7", data })),
  ],
  ["an id with a NUL is ignored", "id: 7\0\ndata: a\n\n", [{ event: "message", id: "", data: "a" }]],
  ["an unfinished message is discarded", "data: a\n\ndata: b\n", [{ event: "message", id: "", data: "a" }]],
])("%s", (_name, text, want) => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const lines = text.replaceAll("\n", end);
    expect(read([lines]).messages).toEqual(want);
    expect(read([...lines]).messages).toEqual(want);
    expect(read(lines.split(/(?<=\r)/)).messages).toEqual(want);
  }
});

test("retry is reported if it is a number", () => {
  expect(read(["retry: 1500\nretry: soon\nretry: -1\nretry:\n\n"]).retries).toEqual([1500]);
});

test("a line without an end is an error", () => {
  expect(() => read(["data: a\n\n", ...Array.from({ length: 5 }, () => "x".repeat(1 << 20))])).toThrow(
    "no end",
  );
});
