/** What a film shows so far, in numbers: programs that have finished, small and large ones apart. */
import type { Film, FilmResult } from "./film.ts";

export interface Group {
  name: string;
  about: string;
  all: number;
  ended: number;
  /** Response time of those that have ended. */
  meanMs: number | undefined;
}

export interface Summary {
  all: number;
  ended: number;
  groups: Group[];
}

/** @param atMs what ended later has not ended yet. */
export function summarise(film: Film, atMs: number): Summary {
  const calls = film.results.map((result) => result.calls).sort((a, b) => a - b);
  const median = calls[Math.ceil(calls.length / 2) - 1] ?? 1;
  const isSmall = (result: FilmResult) => result.calls <= median;
  const small = film.results.filter(isSmall);
  const large = film.results.filter((result) => !isSmall(result));
  const text = median === 1 ? "1 call" : `at most ${median} calls`;
  const groups = [groupOf(large.length === 0 ? "Programs" : "Short programs", `programs of ${text}`, small, atMs)];
  if (large.length > 0) groups.push(groupOf("Long programs", `programs of more than ${median} calls`, large, atMs));
  return { all: film.results.length, ended: film.results.filter((result) => hasEnded(result, atMs)).length, groups };
}

function hasEnded({ endedAtMs }: FilmResult, atMs: number): boolean {
  return endedAtMs !== undefined && endedAtMs <= atMs;
}

function groupOf(name: string, about: string, results: readonly FilmResult[], atMs: number): Group {
  const ended = results.filter((result) => hasEnded(result, atMs));
  const total = ended.reduce((sum, { arrivedAtMs, endedAtMs = 0 }) => sum + endedAtMs - arrivedAtMs, 0);
  const meanMs = ended.length > 0 ? total / ended.length : undefined;
  return { name, about: `${about}: time from arrival to end`, all: results.length, ended: ended.length, meanMs };
}
