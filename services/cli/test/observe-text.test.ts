import { describe, expect, it } from "vitest";
import { shownUrl } from "../src/observe/nats.ts";
import { bar, cells, duration, fit, paint, short, table } from "../src/observe/text.ts";

describe("text in cells", () => {
  it("counts wide characters as two, marks and colours as none", () => {
    expect(["abc", "日本", "e\u0301", "\u{1F600}", paint("abc", "red", true)].map(cells)).toEqual([3, 4, 1, 2, 3]);
  });

  it("is cut or padded to exactly the width, and moves no cursor", () => {
    expect(fit("abc", 5)).toBe("abc  ");
    expect(fit("abc", 5, "right")).toBe("  abc");
    expect(fit("abcdef", 4)).toBe("abc…");
    expect(fit("日本語", 4)).toBe("日… ");
    expect(fit("a\u001b[2Jb\r\n\u202ec", 8)).toBe("a[2Jbc  ");
    for (const text of ["", "日本語", "abcdef", "a\u0301b\u0301c\u0301"]) {
      for (let width = 0; width < 9; width++) expect(cells(fit(text, width))).toBe(width);
    }
  });

  it("shows times and counts as people read them", () => {
    expect([0, 830, 12_340, 100_000, 245_000, 12_000_000].map(duration)).toEqual([
      "0 ms",
      "830 ms",
      "12.3 s",
      "1:40 min",
      "4:05 min",
      "3:20 h",
    ]);
    expect([0, 7.25, 950, 12_345, 123_456, 4_100_000].map(short)).toEqual(["0", "7.3", "950", "12.3k", "123k", "4.1M"]);
    expect([bar(0, 8), bar(0.5, 8), bar(1, 8), bar(7, 8)].map((text) => text.length)).toEqual([0, 4, 8, 8]);
  });

  it("has aligned columns", () => {
    const lines = table(
      [
        { a: "x", n: 5 },
        { a: "long", n: 1_000 },
      ],
      [
        { title: "A", value: ({ a }) => a },
        { title: "N", align: "right", value: ({ n }) => String(n) },
      ],
    );
    expect(lines).toEqual(["A        N", "x        5", "long  1000"]);
  });

  it("has tables of any length", () => {
    const rows = Array.from({ length: 200_000 }, (_, i) => i);
    expect(table(rows, [{ title: "N", value: String }])).toHaveLength(200_001);
  });

  it("shows no password of an address", () => {
    expect(
      [
        "nats://me:secret@one:4222,nats://me:p@ss@two:4222/",
        "me:secret@one:4222",
        "one:4222, token@two:4222",
        "wss://one:443/path@x",
        "",
      ].map(shownUrl),
    ).toEqual(["nats://one:4222,nats://two:4222/", "one:4222", "one:4222, two:4222", "wss://one:443/path@x", ""]);
  });
});
