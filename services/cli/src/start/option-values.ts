/** Values on a command line, refused in one line that names the option. */
import { UsageError } from "../usage.ts";

export function bytes(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--${name} must be a number of bytes, not "${text}"`);
  return Number(text);
}

export function wholeNumber(name: string, text: string, max: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max)
    throw new UsageError(`--${name} must be a whole number from 1 to ${max}, not "${text}"`);
  return value;
}

export function choice<const T extends string>(name: string, text: string, words: readonly T[]): T {
  const word = words.find((candidate) => candidate === text);
  if (word === undefined) throw new UsageError(`--${name} must be one of ${words.join(", ")}, not "${text}"`);
  return word;
}

export function httpUrl(name: string, text: string): string {
  if (!/^https?:$/.test(URL.parse(text)?.protocol ?? "")) throw new UsageError(`--${name} needs an http or https URL`);
  return text;
}

/** @returns the text, a number from 0 to 1. */
export function share(name: string, text: string): string {
  if (!/^(0(\.\d{1,15})?|1(\.0{1,15})?)$/.test(text)) throw new UsageError(`--${name} must be a number from 0 to 1`);
  return text;
}
