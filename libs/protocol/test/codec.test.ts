import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { decode, decodeAs, encode, encodingOf, validate } from "../src/index.ts";

const bytes = (...values: number[]) => new Uint8Array(values);
const utf8 = (text: string) => new TextEncoder().encode(text);
const invalid = expect.objectContaining({ code: "invalid_json" });

/** What both encodings can say: no undefined, no -0, no lone surrogates. */
const plain = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc.integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER }).map((n) => n + 0),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (n === 0 ? 0 : n)),
    fc.string({ unit: "grapheme" }),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(
      fc.string({ unit: "grapheme" }).filter((k) => k !== "__proto__"),
      tie("value"),
      {
        maxKeys: 20,
        noNullPrototype: true,
      },
    ),
  ),
}));
const message = fc.oneof(
  fc.array(plain.value),
  fc.dictionary(
    fc.string().filter((k) => k !== "__proto__"),
    plain.value,
    { noNullPrototype: true },
  ),
);

describe("a message", () => {
  it.each(["msgpack", "json"] as const)("comes back from %s, whose kind its first byte tells", (encoding) => {
    fc.assert(
      fc.property(message, (value) => {
        const encoded = encode(value, encoding);
        expect(encodingOf(encoded)).toBe(encoding);
        expect(decode(encoded)).toEqual(value);
      }),
    );
  });

  it("that is no map and no array is JSON, as whoever typed it meant", () => {
    expect(encodingOf(utf8("7"))).toBe("json");
    expect(decode(utf8("7"))).toBe(7);
    expect(decode(utf8('"seven"'))).toBe("seven");
    expect(() => decode(bytes(7))).toThrow(invalid);
  });

  it("may be JSON behind any white space", () => {
    expect(decode(utf8(' \t\r\n{"a":1}\n'))).toEqual({ a: 1 });
    expect(decode(utf8(" [1, 2]"))).toEqual([1, 2]);
  });

  it("may hold bytes in msgpack", () => {
    const decoded = decode(encode({ body: bytes(1, 2, 255) })) as { body: Uint8Array };
    expect(decoded.body).toBeInstanceOf(Uint8Array);
    expect([...decoded.body]).toEqual([1, 2, 255]);
  });

  it("may hold whole numbers of any width", () => {
    expect(decode(bytes(0x91, 0xcf, 0, 0, 0, 0, 0, 0, 0, 5))).toEqual([5]);
    expect(decode(bytes(0x91, 0xd3, 255, 255, 255, 255, 255, 255, 255, 251))).toEqual([-5]);
    const huge = decode(bytes(0x91, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255));
    expect(() => validate(z.array(z.int()), huge)).toThrow("[0]: must be at most 9007199254740991");
  });

  it("is not changed by what other messages held", () => {
    const sent = encode({ n: 0x41 });
    // A record definition of msgpackr's own dialect, for id 0x41.
    const hostile = bytes(0x91, 0xd4, 0x72, 0x41, 0x91, 0xa1, 0x61, 0x05);
    expect(decode(hostile)).toEqual([{ a: 5 }]);
    expect(decode(sent)).toEqual({ n: 0x41 });
  });
});

describe("bytes that are no message", () => {
  it.each([
    ["nothing", bytes()],
    ["white space", utf8("  \n")],
    ["half of a JSON text", utf8('{"a":')],
    ["two JSON texts", utf8('{"a":1}{"a":2}')],
    ["JSON with a broken character", bytes(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d)],
    ["NaN", utf8('{"a":NaN}')],
    ["msgpack's never-used byte", bytes(0xc1, 0, 0)],
    ["a map without its entries", bytes(0x8f)],
    ["an array of 4 billion items in 5 bytes", bytes(0xdd, 0xff, 0xff, 0xff, 0xff)],
    ["a map of 4 billion entries in 5 bytes", bytes(0xdf, 0xff, 0xff, 0xff, 0xff)],
    ["a text of 4 GB in 5 bytes", bytes(0xdb, 0xff, 0xff, 0xff, 0xff)],
    ["4 GB of bytes in 5", bytes(0xc6, 0xff, 0xff, 0xff, 0xff)],
    ["an extension that nobody knows", bytes(0xd4, 0x55, 0x00)],
    ["arrays of 32 million items, nested", new Uint8Array(100).map((_, i) => [0xdd, 0x02, 0, 0, 0][i % 5] ?? 0)],
    ["two msgpack values", bytes(0x80, 0x80)],
  ])("are refused: %s", (_, given) => expect(() => decode(given)).toThrow(invalid));

  it("are refused wherever a message is cut", () => {
    const whole = encode({ kind: "tokens", items: [{ text: "abc", ids: [1, 70_000] }], n: 1.5 });
    for (let length = 0; length < whole.length; length++) {
      expect(() => decode(whole.subarray(0, length))).toThrow(invalid);
    }
  });

  it("never do anything but decode or be refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
        try {
          decode(garbage);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_json" });
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it("are refused or decoded when nested a million deep, without the end of the process", () => {
    const depth = 1_000_000;
    const attempts = [
      utf8("[".repeat(depth)),
      utf8("[".repeat(depth) + "]".repeat(depth)),
      utf8(`${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`),
      new Uint8Array(depth).fill(0x91),
      new Uint8Array(depth + 1).fill(0x91, 0, depth),
    ];
    for (const attempt of attempts) {
      try {
        decode(attempt);
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid_json" });
      }
    }
  });

  it("leave no text of theirs in the error, which is logged", () => {
    for (const given of [utf8('{"a":"SECRET'), Buffer.concat([encode({ a: "SECRET" }), bytes(0)])]) {
      try {
        decode(given);
        expect.unreachable();
      } catch (error) {
        expect(JSON.stringify([String(error), (error as Error).stack, (error as Error).cause])).not.toContain("SECRET");
      }
    }
  });
});

describe("a hostile key", () => {
  it("changes no prototype", () => {
    for (const given of [
      utf8('{"__proto__":{"polluted":1}}'),
      bytes(0x81, 0xa9, ...utf8("__proto__"), 0x81, 0xa1, 0x61, 1),
    ]) {
      const decoded = decode(given);
      expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
      expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    }
  });
});

describe("validation names the field and what it must be", () => {
  const schema = z.object({
    list: z.array(z.object({ n: z.int().positive() })).optional(),
    kind: z.enum(["a", "b"]).optional(),
    text: z.string().max(3).optional(),
    either: z.union([z.string(), z.array(z.string())]).optional(),
    needed: z.boolean(),
  });
  it.each([
    [{}, "needed: is required", "needed"],
    [{ needed: 1 }, "needed: must be true or false", "needed"],
    [{ needed: true, list: [{ n: 1 }, { n: 0 }] }, "list[1].n: must be greater than 0", "list[1].n"],
    [{ needed: true, list: [{ n: 1.5 }] }, "list[0].n: must be a whole number", "list[0].n"],
    [{ needed: true, list: [{}] }, "list[0].n: is required", "list[0].n"],
    [{ needed: true, kind: "c" }, "kind: must be one of a, b", "kind"],
    [{ needed: true, text: "long" }, "text: must have at most 3 characters", "text"],
    [{ needed: true, either: 1 }, "either: must be a string or a list", "either"],
    [{ needed: true, either: ["a", 1] }, "either[1]: must be a string", "either[1]"],
    ["text", "must be an object", undefined],
  ])("%j", (value, text, param) => {
    expect(() => decodeAs(schema, encode([value]))).toThrow();
    expect(() => validate(schema, value)).toThrow(
      expect.objectContaining({ code: "invalid_request", message: text, param }),
    );
  });
});
