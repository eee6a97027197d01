/**
 * A colour for each program that has calls: the same one as long as it is known, and when it is new the one that fewest
 * others with calls have now. There are more programs than colours that people can tell apart, so a colour never stands alone: whatever has
 * one shows the program's label, too.
 */

/** Colours of the style sheet (`--program-0` …), each plain and striped. */
export const HUES = 8;
export const LOOKS = HUES * 2;
/** Programs with a look at one time; beyond it they share by their name. */
export const COLOURED_MAX = 20_000;

export type ColoursShot = [key: string, look: number][];

export class Colours {
  private readonly looks = new Map<string, number>();
  /** Calls of programs that have some. */
  private readonly calls = new Map<string, number>();
  /** Programs with calls, by their look. */
  private readonly uses: number[] = Array.from({ length: LOOKS }, () => 0);
  private next = 0;

  constructor(shot: ColoursShot = []) {
    for (const [key, look] of shot) this.looks.set(key, look);
  }

  /** The look of a program; 0 … `LOOKS` − 1. Plain colours are given away before striped ones. */
  of(key: string): number {
    return this.looks.get(key) ?? hash(key) % LOOKS;
  }

  /** A call of the program came. */
  callCame(key: string): void {
    const calls = this.calls.get(key) ?? 0;
    this.calls.set(key, calls + 1);
    if (calls > 0) return;
    const look = this.looks.get(key) ?? this.give(key);
    if (look !== undefined) this.uses[look] = (this.uses[look] ?? 0) + 1;
  }

  /** One of its calls is gone. It keeps its look; a new program may get the same one. */
  callWent(key: string): void {
    const calls = (this.calls.get(key) ?? 1) - 1;
    if (calls > 0) this.calls.set(key, calls);
    else this.letGo(key);
  }

  forget(key: string): void {
    if (this.calls.has(key)) this.letGo(key);
    this.looks.delete(key);
  }

  shot(): ColoursShot {
    return [...this.looks];
  }

  private give(key: string): number | undefined {
    if (this.looks.size >= COLOURED_MAX) return undefined;
    let best = this.next % LOOKS;
    for (let i = 0; i < LOOKS; i++) {
      const look = (this.next + i) % LOOKS;
      if ((this.uses[look] ?? 0) < (this.uses[best] ?? 0)) best = look;
    }
    this.next = best + 1;
    this.looks.set(key, best);
    return best;
  }

  private letGo(key: string): void {
    this.calls.delete(key);
    const look = this.looks.get(key);
    if (look !== undefined) this.uses[look] = Math.max(0, (this.uses[look] ?? 0) - 1);
  }
}

function hash(text: string): number {
  let value = 0;
  for (let i = 0; i < text.length; i++) value = (Math.imul(value, 31) + text.charCodeAt(i)) >>> 0;
  return value;
}
