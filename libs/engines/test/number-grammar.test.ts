import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Bounds, integersWithin, numbersWithin } from "../src/llama/number-grammar.ts";

/** These grammars are regular expressions but for their quotes and spaces. */
function matcher(alternatives: readonly string[]): RegExp {
  const body = alternatives.map((one) =>
    one.replace(/"([^"]*)"/g, (_, text) => text.replace(".", "\\.")).replaceAll(" ", ""),
  );
  return new RegExp(`^(?:${body.join("|") || "(?!)"})$`);
}

const bound = fc.option(
  fc.oneof(fc.integer({ min: -1_200, max: 1_200 }), fc.double({ min: -50, max: 50, noNaN: true })),
  { nil: undefined },
);
const anyBounds = fc.record({ minimum: bound, maximum: bound, exclusiveMinimum: bound, exclusiveMaximum: bound });

function isWithin(value: number, bounds: Partial<Record<keyof Bounds, number | undefined>>): boolean {
  return (
    value >= (bounds.minimum ?? -Infinity) &&
    value <= (bounds.maximum ?? Infinity) &&
    value > (bounds.exclusiveMinimum ?? -Infinity) &&
    value < (bounds.exclusiveMaximum ?? Infinity)
  );
}

describe("grammars of bounded numbers", () => {
  it("allow every whole number within, and no other", () => {
    fc.assert(
      fc.property(anyBounds, fc.array(fc.integer({ min: -1_500, max: 1_500 }), { minLength: 20 }), (bounds, values) => {
        const regex = matcher(integersWithin(bounds as Bounds));
        const ends = Object.values(bounds).flatMap((end) =>
          end === undefined ? [] : [-1, 0, 1].map((d) => Math.floor(end) + d),
        );
        for (const value of [...values, ...ends, 0]) {
          expect([bounds, value, regex.test(`${value}`)]).toEqual([bounds, value, isWithin(value, bounds)]);
        }
        for (const wrong of ["", "-", "-0", "01", "1.", "1e3"]) expect(regex.test(wrong)).toBe(false);
      }),
    );
  });

  it("allow no decimal that lies outside", () => {
    const decimal = fc
      .tuple(fc.integer({ min: -60, max: 60 }), fc.integer({ min: 0, max: 99 }))
      .map(([n, f]) => `${n}.${f}`);
    fc.assert(
      fc.property(anyBounds, fc.array(decimal, { minLength: 30 }), (bounds, texts) => {
        const regex = matcher(numbersWithin(bounds as Bounds));
        const ends = Object.values(bounds).flatMap((end) =>
          end === undefined ? [] : [`${Math.floor(end)}`, `${Math.floor(end)}.0`],
        );
        for (const text of [...texts, ...ends]) {
          if (regex.test(text)) expect([bounds, text, isWithin(Number(text), bounds)]).toEqual([bounds, text, true]);
        }
      }),
    );
  });

  it.each([
    [{ minimum: 0, maximum: 1 }, ["0", "0.5", "1"], ["1.5", "-0.5", "2"]],
    [{ exclusiveMinimum: 0 }, ["0.01", "7", "7.25"], ["0", "0.0", "-1"]],
    [{ exclusiveMinimum: 0, exclusiveMaximum: 1 }, ["0.5"], ["0", "1", "1.0"]],
    [{ minimum: -2 }, ["-2", "-1.5", "0", "12.5"], ["-2.5", "-3"]],
    [{ maximum: -2 }, ["-2", "-2.5", "-300"], ["-1.5", "0"]],
  ])("%j", (bounds, inside, outside) => {
    const regex = matcher(numbersWithin(bounds));
    expect(inside.filter((text) => !regex.test(text))).toEqual([]);
    expect(outside.filter((text) => regex.test(text))).toEqual([]);
  });
});
