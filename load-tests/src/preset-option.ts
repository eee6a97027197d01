/** `--preset` of the commands that simulate: a name, or a file of `npm run calibrate`. */
import { PresetError, presetId } from "@autellix/engines/preset-file";
import { UsageError } from "./options.ts";

/** @returns what `readPreset` takes, and reports show. @throws UsageError */
export function presetOption(text: string): string {
  try {
    return presetId(text);
  } catch (error) {
    throw error instanceof PresetError ? new UsageError(`--preset ${error.message}`) : error;
  }
}
