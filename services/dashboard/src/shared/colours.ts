/**
 * A colour for each program that has calls: the same one as long as it is known, and the one that fewest others have
 * now. There are more programs than colours that people can tell apart, so a colour never stands alone: whatever has
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
  private readonly uses: number[] = Array.from({ length: LOOKS }, () => 0);
  private next = 0;

  constructor(shot: ColoursShot = []) {
    for (const [key, look] of shot) this.set(key, look);
  }

  /** The look of a program; 0 … `LOOKS` − 1. Plain colours are given away before striped ones. */
  of(key: string): number {
    return this.looks.get(key) ?? hash(key) % LOOKS;
  }

  take(key: string): void {
    if (this.looks.has(key) || this.looks.size >= COLOURED_MAX) return;
    let best = this.next % LOOKS;
    for (let i = 0; i < LOOKS; i++) {
      const look = (this.next + i) % LOOKS;
      if ((this.uses[look] ?? 0) < (this.uses[best] ?? 0)) best = look;
    }
    this.next = best + 1;
    this.set(key, best);
  }

  free(key: string): void {
    const look = this.looks.get(key);
    if (look === undefined) return;
    this.looks.delete(key);
    this.uses[look] = (this.uses[look] ?? 1) - 1;
  }

  shot(): ColoursShot {
    return [...this.looks];
  }

  private set(key: string, look: number): void {
    this.looks.set(key, look);
    this.uses[look] = (this.uses[look] ?? 0) + 1;
  }
}

function hash(text: string): number {
  let value = 0;
  for (let i = 0; i < text.length; i++) value = (Math.imul(value, 31) + text.charCodeAt(i)) >>> 0;
  return value;
}
