import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { LineSplitter, linesOf } from "../src/lines.ts";

async function linesIn(...pieces: string[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of linesOf(Readable.from(pieces))) lines.push(line);
  return lines;
}

describe("lines", () => {
  it("end with \\n or \\r\\n, wherever the pieces end", async () => {
    expect(await linesIn("a\nb", "c\r", "\n\nd\n")).toEqual(["a", "bc", "", "d"]);
    expect(await linesIn("", "a", "", "b")).toEqual(["ab"]);
    expect(await linesIn()).toEqual([]);
  });

  it("do not end where JSON has no escape for the end of a line", async () => {
    const line = JSON.stringify({ program: "line\u2028sep\u2029\u0085" });
    expect(await linesIn(`${line}\n${line}`)).toEqual([line, line]);
  });

  it("that are not ended come at the end", () => {
    const splitter = new LineSplitter();
    expect([splitter.push("a\nb"), splitter.end(), splitter.end()]).toEqual([["a"], ["b"], []]);
  });
});
