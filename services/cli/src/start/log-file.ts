/** Log files of services: JSON lines, kept across starts, one older file each. */
import { closeSync, openSync, renameSync, statSync } from "node:fs";

/** A file above this size is set aside at the next start. */
const LOG_BYTES_MAX = 10 * 1024 * 1024;

/** Sets a large log aside as `<path>.1`. */
export function rotateLog(path: string): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LOG_BYTES_MAX) renameSync(path, `${path}.1`);
}

/** Runs `use` with a descriptor that appends; the child that inherits it keeps its own. */
export function withLog<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, "a");
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
