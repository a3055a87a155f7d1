import { expect, test } from "vitest";
import { toCsv } from "./csv";

test("CSV quotes cells by RFC 4180 and disarms formulas", () => {
  expect(
    toCsv([
      ["page", "n"],
      ['a"b,c', 1],
      ["=1+1", null],
      ["-5", -5],
      ["a\nb", 2],
    ]),
  ).toBe('page,n\r\n"a""b,c",1\r\n\'=1+1,\r\n\'-5,-5\r\n"a\nb",2\r\n');
});
