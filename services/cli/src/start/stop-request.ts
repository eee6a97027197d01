/** Ctrl-C and its relatives: the first asks all to stop in order, a second does not wait. */

/**
 * One Ctrl-C arrives several times, from the terminal and forwarded by npm and by the script that started this
 * process; only a later one is a second.
 */
const REPEAT_MS_MIN = 500;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const SECOND_EXIT_CODE = 130;

/** The reason with which a stop request aborts. */
export class Stopped extends Error {
  override readonly name = "Stopped";
}

export interface StopRequest {
  signal: AbortSignal;
  release(): void;
}

/**
 * @param onFirst says so to the person. @param onSecond last words; then the process exits, and its exit handlers kill
 * all children and remove what is temporary.
 */
export function listenForStop(onFirst: () => void, onSecond: () => void): StopRequest {
  const abort = new AbortController();
  let firstAtMs = 0;
  const stop = () => {
    if (!abort.signal.aborted) {
      firstAtMs = performance.now();
      onFirst();
      abort.abort(new Stopped("stopped"));
    } else if (performance.now() - firstAtMs >= REPEAT_MS_MIN) {
      onSecond();
      process.exit(SECOND_EXIT_CODE);
    }
  };
  // Also when whoever started this process is gone: nobody could stop it then.
  const events = [...SIGNALS, "disconnect"] as const;
  for (const event of events) process.on(event, stop);
  if (process.send && !process.connected) stop();
  return {
    signal: abort.signal,
    release: () => {
      for (const event of events) process.off(event, stop);
    },
  };
}
