import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AnswerText } from "../src/text.ts";

const END = 1000;
/** Ids are bytes: the hardest vocabulary for whole characters. */
const decode = (ids: readonly number[]) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(ids));
const bytes = (text: string) => [...new TextEncoder().encode(text)];

function answer(stop: string[] = [], tokensMax = 10_000): AnswerText {
  return new AnswerText({ decode, isEnd: (id) => id === END, stop, tokensMax });
}

/** Pushes until the answer ends; what each id gave. */
function pushAll(text: AnswerText, ids: readonly number[]): string[] {
  const given: string[] = [];
  for (const id of ids) {
    if (text.finish !== undefined) break;
    given.push(text.push(id));
  }
  return given;
}

const texts = fc.string({ unit: fc.constantFrom("a", "b", "ab", " ", "é", "語", "😀", "\ufeff"), maxLength: 30 });
const stops = fc.array(
  fc.string({ unit: fc.constantFrom("a", "b", " ", "é", "語", "😀"), minLength: 1, maxLength: 5 }),
  { maxLength: 3 },
);

describe("the text of an answer", () => {
  it("comes in whole characters", () => {
    expect(pushAll(answer(), bytes("é😀!"))).toEqual(["", "é", "", "", "", "😀", "!"]);
  });

  it("is the text of all ids at once", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const one = answer();
        expect(pushAll(one, [...bytes(text), END]).join("")).toBe(text);
        expect(one.finish).toBe("stop");
      }),
    );
  });

  it("shows stray bytes as decoders do, and goes on behind them", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0xc3, 0xa9, 0x61)), { maxLength: 20 }),
        (ids) => {
          expect(pushAll(answer(), [...ids, 0x21, END]).join("")).toBe(decode([...ids, 0x21]));
        },
      ),
    );
  });

  it("does not wait for ever for the end of a character", () => {
    const given = pushAll(
      answer(),
      Array.from({ length: 100 }, () => 0x80),
    ).join("");
    expect(given.length).toBeGreaterThan(60);
  });

  it("drops a character that is open when the answer ends", () => {
    expect(pushAll(answer(), [...bytes("a😀").slice(0, 3), END]).join("")).toBe("a");
    expect(pushAll(answer([], 3), bytes("a😀")).join("")).toBe("a");
  });

  it("ends before the first stop sequence, whatever tokens it is cut into", () => {
    fc.assert(
      fc.property(texts, stops, (text, stop) => {
        const one = answer(stop);
        const given = pushAll(one, [...bytes(text), END]).join("");
        const at = Math.min(...stop.map((s) => text.indexOf(s)).filter((i) => i >= 0));
        if (Number.isFinite(at)) expect(text.startsWith(given) && given.length <= text.length).toBe(true);
        else expect(given).toBe(text);
        for (const s of stop) expect(given.includes(s)).toBe(false);
        expect(one.finish).toBe("stop");
      }),
    );
  });

  it("holds back what may become a stop sequence, and gives it back when it does not", () => {
    expect(pushAll(answer(["STOP"]), [...bytes("xSTxSTOPy")])).toEqual(["x", "", "", "STx", "", "", "", ""]);
    expect(pushAll(answer(["STOP"]), [...bytes("xST"), END])).toEqual(["x", "", "", "ST"]);
    expect(pushAll(answer(["STOP"], 3), bytes("xST"))).toEqual(["x", "", "ST"]);
  });

  it("depends on the ids alone: a replay of any prefix goes on with the rest", () => {
    fc.assert(
      fc.property(texts, stops, fc.nat(40), fc.integer({ min: 1, max: 60 }), (text, stop, cut, tokensMax) => {
        const ids = [...bytes(text), END];
        const first = answer(stop, tokensMax);
        const given = pushAll(first, ids);
        const replay = answer(stop, tokensMax);
        pushAll(replay, ids.slice(0, cut));
        expect(pushAll(replay, ids.slice(cut))).toEqual(given.slice(cut));
        expect(replay.finish).toBe(first.finish);
      }),
    );
  });

  it("ends with length at the last id that may be", () => {
    const one = answer([], 2);
    pushAll(one, bytes("abc"));
    expect([one.finish, one.ids.length]).toEqual(["length", 2]);
    expect(() => one.push(0x61)).toThrow();
  });
});
