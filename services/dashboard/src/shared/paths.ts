/**
 * Names in paths. A program may be called `.` or `..`, which browsers take as steps through folders, percent-encoded or
 * not: a `~` goes before them, and before names that look like that already.
 */

const STEP = /^~*\.{1,2}$/;
const HIDDEN_STEP = /^~+\.{1,2}$/;

/** @param segment without its percent-encoding. */
export function nameOfSegment(segment: string): string {
  return HIDDEN_STEP.test(segment) ? segment.slice(1) : segment;
}

export function poolPath(pool: string | undefined): string {
  return pool === undefined ? "/" : `/pools/${toSegment(pool)}`;
}

/** @param key `<tenant>/<program>` */
export function programPath(pool: string, key: string): string {
  const slash = key.indexOf("/");
  return `${poolPath(pool)}/programs/${toSegment(key.slice(0, slash))}/${toSegment(key.slice(slash + 1))}`;
}

/** @returns one segment of a path. */
function toSegment(name: string): string {
  return encodeURIComponent(STEP.test(name) ? `~${name}` : name);
}
