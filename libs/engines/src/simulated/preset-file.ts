/** Presets by name, or from a file that `npm run calibrate` wrote. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type EnginePreset, isPresetName, presets } from "./cost.ts";

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
/** Zero of them would be no engine. */
const AT_LEAST_ONE = new Set([
  "batchCallsMax",
  "residentCallsMax",
  "contextTokensMax",
  "kvTokens",
  "sliceTokens",
  "outBytesPerMs",
  "inBytesPerMs",
]);
/** Between a file and the beginning of its hash. */
const HASH_MARK = "#";
const HASH_CHARS = 8;

/**
 * @param text a preset's name, or a file; also what `presetId` gave.
 * @throws PresetError when it is neither, or the file holds no preset.
 */
export function readPreset(text: string): EnginePreset {
  if (isPresetName(text)) return presets[text];
  const [file = ""] = text.split(HASH_MARK);
  return presetOfJson(readText(file), file);
}

/** Names a preset and, for one in a file, what is in it: results of different files are kept apart. @throws PresetError */
export function presetId(text: string): string {
  if (isPresetName(text)) return text;
  readPreset(text);
  const hash = createHash("sha256").update(readText(text)).digest("hex").slice(0, HASH_CHARS);
  return `${text}${HASH_MARK}${hash}`;
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
    else if (typeof field === "number" && Number.isFinite(field) && field >= (AT_LEAST_ONE.has(key) ? 1 : 0))
      result[key] = field;
    else throw new PresetError(`${path}.${key} must be a number of ${AT_LEAST_ONE.has(key) ? 1 : 0} or more`);
  }
  return result;
}
