import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { encodeGguf } from "../src/tiny-model/gguf.ts";
import { tinyModel, writeTinyModel } from "../src/tiny-model/index.ts";
import { vocabulary } from "../src/tiny-model/vocabulary.ts";

describe("the tiny model", () => {
  it("is the same file for the same seed, on every machine", () => {
    const sha256 = createHash("sha256").update(tinyModel(1)).digest("hex");
    expect(sha256).toBe("589cbf862858fb2ee1a68591762e036ad168ed846422eeb9f83e42ab3456060a");
    expect(tinyModel(2).equals(tinyModel(1))).toBe(false);
  });

  it("is written whole, and stays small", async () => {
    const folder = await mkdtemp(join(tmpdir(), "autellix-tiny-"));
    try {
      await writeTinyModel(join(folder, "m.gguf"), { seed: 1 });
      const file = await readFile(join(folder, "m.gguf"));
      expect(file.equals(tinyModel(1))).toBe(true);
      expect(file.length).toBeLessThan(4 * 1024 * 1024);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("has 512 different tokens, every byte among them", () => {
    const { tokens, scores, types } = vocabulary();
    expect([new Set(tokens).size, scores.length, types.length]).toEqual([512, 512, 512]);
    expect(tokens.filter((token) => /^<0x[0-9A-F]{2}>$/.test(token))).toHaveLength(256);
  });
});

describe("the GGUF writer", () => {
  it("writes header, metadata, tensor directory and aligned data", () => {
    const file = encodeGguf({ a: { type: "uint32", value: 7 } }, [
      { name: "t", shape: [2], data: Float32Array.of(1, -1), encoding: "f32" },
      { name: "u", shape: [1], data: Float32Array.of(2), encoding: "f32" },
    ]);
    expect(file.toString("latin1", 0, 4)).toBe("GGUF");
    expect([file.readUInt32LE(4), file.readBigUInt64LE(8), file.readBigUInt64LE(16)]).toEqual([3, 2n, 1n]);
    // Key "a" of 1 byte, type 4 (uint32), value.
    expect([
      file.readBigUInt64LE(24),
      file.toString("latin1", 32, 33),
      file.readUInt32LE(33),
      file.readUInt32LE(37),
    ]).toEqual([1n, "a", 4, 7]);
    const dataAt = file.length - 64;
    expect(dataAt % 32).toBe(0);
    expect([file.readFloatLE(dataAt), file.readFloatLE(dataAt + 4), file.readFloatLE(dataAt + 32)]).toEqual([1, -1, 2]);
  });

  it("refuses a tensor whose values do not fill its shape", () => {
    expect(() => encodeGguf({}, [{ name: "t", shape: [2, 2], data: new Float32Array(3), encoding: "f32" }])).toThrow(
      /tensor t has 3 values/,
    );
  });
});
