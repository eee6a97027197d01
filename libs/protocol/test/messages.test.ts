/**
 * Old bytes must decode for ever: an agent and a scheduler of two versions talk to each other during an upgrade.
 * `UPDATE_FIXTURES=1` writes the fixture of an example that has none yet; one that exists is never written again.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { z } from "zod";
import { decode, decodeAs, encode } from "../src/index.ts";
import { examples } from "./examples.ts";

const folder = join(import.meta.dirname, "fixtures");
const bytesOf = (name: string) => join(folder, `${name}.bin`);
const jsonOf = (name: string) => join(folder, `${name}.json`);

/** JSON as it is kept beside the bytes; byte strings as base64. */
function readable(value: unknown): string {
  return `${JSON.stringify(
    value,
    function (this: Record<string, unknown>, key, given) {
      const raw = this[key];
      return raw instanceof Uint8Array ? { base64: Buffer.from(raw).toString("base64") } : given;
    },
    2,
  )}\n`;
}

if (process.env.UPDATE_FIXTURES === "1") {
  mkdirSync(folder, { recursive: true });
  for (const [name, { message }] of Object.entries(examples)) {
    if (existsSync(bytesOf(name))) continue;
    writeFileSync(bytesOf(name), encode(message));
    writeFileSync(jsonOf(name), readable(message));
  }
}

describe.each(Object.entries(examples))("%s", (name, { schema, message }) => {
  it("has a fixture (UPDATE_FIXTURES=1 writes a new one)", () => expect(existsSync(bytesOf(name))).toBe(true));

  it("still decodes from the bytes that were kept", () => {
    const decoded = decodeAs(schema, readFileSync(bytesOf(name)));
    expect(readable(decoded)).toBe(readFileSync(jsonOf(name), "utf8"));
  });

  it("comes back from msgpack", () => expect(decodeAs(schema, encode(message))).toEqual(message));

  it("takes a field that a later version adds", () => {
    expect(decodeAs(schema as z.ZodType, encode({ ...message, added_later: { x: [1] } }))).toBeDefined();
  });

  it("is refused with an error that names a field when any of its own is of a wrong type", () => {
    for (const key of Object.keys(message)) {
      const broken = encode({ ...message, [key]: { wrong: true } });
      expect(() => decodeAs(schema, broken)).toThrow(expect.objectContaining({ code: "invalid_request" }));
    }
  });
});

it("every fixture belongs to an example", () => {
  const names = readdirSync(folder).map((file) => file.replace(/\.(bin|json)$/, ""));
  expect([...new Set(names)].toSorted()).toEqual(Object.keys(examples).toSorted());
});

it("every fixture is plain msgpack, which other libraries read", () => {
  for (const name of Object.keys(examples)) expect(decode(readFileSync(bytesOf(name)))).toBeTypeOf("object");
});
