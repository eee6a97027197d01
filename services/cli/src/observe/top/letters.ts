/** A letter and a colour for each program that is on the screen, the same from picture to picture. */

const SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** Of the 256 colours: light ones, on which dark text can be read, neighbours far apart. */
const COLORS = [117, 215, 120, 219, 228, 153, 209, 156, 183, 222, 123, 217];
/** Pictures after which a program that was not drawn gives its letter back. */
const UNSEEN_MAX = 20;

export interface Letter {
  text: string;
  color: number;
}

export class Letters {
  readonly #given = new Map<string, { index: number; drawnIn: number }>();
  readonly #free: number[] = [];
  #next = 0;
  #drawing = 0;

  /** A new picture begins: letters that nobody was drawn with for a while are free again. */
  begin(): void {
    this.#drawing++;
    for (const [program, { index, drawnIn }] of this.#given) {
      if (this.#drawing - drawnIn <= UNSEEN_MAX) continue;
      this.#given.delete(program);
      this.#free.push(index);
    }
  }

  /** @returns undefined when all letters are taken. */
  of(program: string): Letter | undefined {
    let given = this.#given.get(program);
    if (!given) {
      const index = this.#free.shift() ?? (this.#next < SYMBOLS.length ? this.#next++ : undefined);
      if (index === undefined) return undefined;
      given = { index, drawnIn: this.#drawing };
      this.#given.set(program, given);
    }
    given.drawnIn = this.#drawing;
    return { text: SYMBOLS[given.index] as string, color: COLORS[given.index % COLORS.length] as number };
  }
}
