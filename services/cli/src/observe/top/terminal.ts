/**
 * A terminal that is drawn on as a whole: on its second screen, only lines that changed are written, in one piece, so
 * that nothing flickers. Whatever ends the process, the terminal is given back as it was.
 */
import type { ReadStream, WriteStream } from "node:tty";
import type { Size } from "./screen.ts";

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
const CLEAR = "\u001b[2J";
const TO_END = "\u001b[K";
const END_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const SIGNAL_EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

export type Key = "quit" | "sort" | "up" | "down" | "page up" | "page down" | "home";

const KEYS: Readonly<Record<string, Key>> = {
  q: "quit",
  Q: "quit",
  "\u0003": "quit",
  s: "sort",
  k: "up",
  "\u001b[A": "up",
  "\u001bOA": "up",
  j: "down",
  "\u001b[B": "down",
  "\u001bOB": "down",
  "\u001b[5~": "page up",
  "\u001b[6~": "page down",
  " ": "page down",
  g: "home",
  "\u001b[H": "home",
};

export interface TerminalEvents {
  onKey: (key: Key) => void;
  onResize: () => void;
  /** The process is told to end, or the terminal is gone. */
  onEnd: (exitCode: number) => void;
}

export class Terminal {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #releases: (() => void)[] = [];
  #shown: string[] = [];
  #isOpen = false;

  constructor(input: ReadStream, output: WriteStream) {
    this.#input = input;
    this.#output = output;
  }

  get size(): Size {
    return { columns: this.#output.columns, rows: this.#output.rows };
  }

  open({ onKey, onResize, onEnd }: TerminalEvents): void {
    this.#isOpen = true;
    const leave = () => this.close();
    process.on("exit", leave);
    this.#releases.push(() => process.off("exit", leave));
    for (const signal of END_SIGNALS) {
      const end = () => onEnd(SIGNAL_EXIT_CODES[signal]);
      process.on(signal, end);
      this.#releases.push(() => process.off(signal, end));
    }
    const resized = () => {
      this.#shown = [];
      onResize();
    };
    const typed = (bytes: Buffer) => {
      for (const key of keysOf(bytes.toString("utf8"))) onKey(key);
    };
    const gone = () => onEnd(SIGNAL_EXIT_CODES.SIGHUP);
    this.#output.on("resize", resized).on("error", gone);
    this.#input.setRawMode(true);
    this.#input.on("data", typed).on("end", gone).on("error", gone).resume();
    this.#releases.push(() => {
      this.#output.off("resize", resized).off("error", gone);
      this.#input.off("data", typed).off("end", gone).off("error", gone).pause();
      this.#input.setRawMode(false);
    });
    this.#output.write(ENTER + CLEAR);
  }

  /** @param lines each at most as wide as the terminal. */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen) return;
    let text = this.#shown.length === 0 ? CLEAR : "";
    for (const [row, line] of lines.entries()) {
      if (this.#shown[row] !== line) text += `\u001b[${row + 1};1H${line}${TO_END}`;
    }
    this.#shown = [...lines];
    if (text !== "") this.#output.write(text);
  }

  /** Idempotent; also when the process exits by itself or by a defect. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const release of this.#releases.splice(0)) release();
    this.#output.write(LEAVE);
  }
}

/** Several keys may come in one piece. */
export function keysOf(text: string): Key[] {
  const keys: Key[] = [];
  for (let at = 0; at < text.length; ) {
    const known = Object.keys(KEYS).find((sequence) => text.startsWith(sequence, at));
    const key = known === undefined ? undefined : KEYS[known];
    if (key !== undefined) keys.push(key);
    at += known?.length ?? 1;
  }
  return keys;
}
