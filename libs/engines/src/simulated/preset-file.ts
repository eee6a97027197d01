/** Presets by name, or from a file that `npm run calibrate` wrote. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { BLOCK_TOKENS, type EnginePreset, isPresetName, presets } from "./cost.ts";

/** A preset cannot be used; `message` is one line for a person. */
export class PresetError extends Error {
  override readonly name = "PresetError";
}

/** What `npm run calibrate` writes; readers use `preset` only. */
export interface PresetFile {
  preset: EnginePreset;
  [about: string]: unknown;
}

/** May be left out of a file. */
const OPTIONAL = new Set(["attendedTokenMs", "mixedMs", "prefillMs"]);
/** Less of them would be no engine; all others may be 0. A block is the least that an engine can hold. */
const LEAST = new Map([
  ["batchCallsMax", 1],
  ["residentCallsMax", 1],
  ["contextTokensMax", 1],
  ["kvTokens", BLOCK_TOKENS],
  ["sliceTokens", 1],
  ["outBytesPerMs", 1],
  ["inBytesPerMs", 1],
]);
/** Calls and tokens are counted; all others are times, bytes and speeds. */
const WHOLE = new Set([
  "batchCallsMax",
  "residentCallsMax",
  "contextTokensMax",
  "kvTokens",
  "hostKvTokens",
  "sliceTokens",
]);
const HASH_CHARS = 8;
/** Behind a file, the beginning of its hash: the end of what `presetId` gives. */
const HASH_END = new RegExp(`#[0-9a-f]{${HASH_CHARS}}$`);

/**
 * @param text a preset's name, or a file; also what `presetId` gave.
 * @throws PresetError when it is neither, or the file holds no preset.
 */
export function readPreset(text: string): EnginePreset {
  if (isPresetName(text)) return presets[text];
  const file = text.replace(HASH_END, "");
  return presetOfJson(readText(file), file);
}

/** Names a preset and, for one in a file, what is in it: results of different files are kept apart. @throws PresetError */
export function presetId(text: string): string {
  if (isPresetName(text)) return text;
  readPreset(text);
  const hash = createHash("sha256").update(readText(text)).digest("hex").slice(0, HASH_CHARS);
  return `${text}#${hash}`;
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const names = Object.keys(presets).join(", ");
    throw new PresetError(`must be one of ${names}, or a file of npm run calibrate, not "${file}"`, { cause });
  }
}

function presetOfJson(text: string, file: string): EnginePreset {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PresetError(`${file} is no JSON, and so no preset`, { cause });
  }
  const shape = { ...presets.zero, cost: { ...presets.zero.cost, attendedTokenMs: 0, mixedMs: 0, prefillMs: 0 } };
  return checked(shape, (value as { preset?: unknown } | null)?.preset, `${file}: preset`) as EnginePreset;
}

/** A copy of `value` with the fields of `shape`, which are numbers or objects of such. */
function checked(shape: object, value: unknown, path: string): object {
  if (typeof value !== "object" || value === null) throw new PresetError(`${path} is missing`);
  const given = value as Record<string, unknown>;
  const result: Record<string, unknown> = {};
  for (const [key, expected] of Object.entries(shape)) {
    const field = given[key];
    if (field === undefined && OPTIONAL.has(key)) continue;
    if (typeof expected === "object") result[key] = checked(expected, field, `${path}.${key}`);
    else if (isFieldOf(key, field)) result[key] = field;
    else {
      const kind = WHOLE.has(key) ? "whole number" : "number";
      throw new PresetError(`${path}.${key} must be a ${kind} of ${LEAST.get(key) ?? 0} or more`);
    }
  }
  return result;
}

function isFieldOf(key: string, value: unknown): value is number {
  if (typeof value !== "number" || value < (LEAST.get(key) ?? 0)) return false;
  return WHOLE.has(key) ? Number.isSafeInteger(value) : Number.isFinite(value);
}
