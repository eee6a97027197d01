/**
 * One log schema for every process: `time` (ISO), `level` (word), `service`, `instance`, then glossary fields (pool,
 * tenant, program, call, attempt, epoch, engine, frontend), then `msg`, a constant sentence. Never prompt or
 * completion text (S12).
 */
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from "pino";
import { PinoPretty } from "pino-pretty";

export type { Logger };

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LoggerOptions {
  /** `frontend`, `scheduler`, `worker-agent`, … */
  service: string;
  /** One of `LOG_LEVELS`; `info` when left out. */
  level?: string;
  /** Coloured lines for people instead of JSON. */
  pretty?: boolean;
  /** Tells processes of one service apart. */
  instance?: string;
}

/** @returns a logger that writes to stdout at once: a line written before a crash is not lost. */
export function createLogger({ service, level = "info", pretty = false, instance }: LoggerOptions): Logger {
  const options = {
    level,
    base: instance === undefined ? { service } : { service, instance },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return pino(options, pretty ? prettyStream(1) : pino.destination({ dest: 1, sync: true }));
}

/**
 * A stream that turns the JSON lines of `createLogger` into lines for people. It runs in this thread: with a worker
 * thread the last lines before an exit would be lost.
 *
 * @param fd where the lines go: 1 (stdout) or 2 (stderr).
 */
export function prettyStream(fd: 1 | 2): DestinationStream {
  return PinoPretty({
    sync: true,
    destination: fd,
    ignore: "pid,hostname,service,instance",
    messageFormat: (line, messageKey) => `${line.instance ?? line.service}: ${line[messageKey]}`,
    translateTime: "SYS:HH:MM:ss.l",
    singleLine: true,
  });
}
