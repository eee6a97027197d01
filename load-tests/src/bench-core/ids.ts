/**
 * Ids as the scheduler gets them from the wire: `<tenant>/<uuid>`, each a fresh string without a hash. A call's last
 * eight digits are its place in the load, so that the driver needs no map of all queued calls.
 */

export const TENANTS = 4;
/** `tenant-0/xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx`. */
export const ID_LENGTH = 45;

const PREFIX_LENGTH = 9;
const DIGIT_0 = 0x30;
const DIGIT_A = 0x61;
/** Offsets of the hex digits of a uuid, without its dashes, version and variant. */
const DIGITS = [...Array(36).keys()].filter((at) => ![8, 13, 14, 18, 19, 23].includes(at));
const PLACE_DIGITS = 8;

/** Mixes a number so that near ones share no digits; a bijection on 32 bits. */
function mix(value: number): number {
  let x = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Writes ids; two writers of different kinds never write the same. */
export class IdWriter {
  readonly #bytes = Buffer.from("tenant-0/00000000-0000-4000-8000-000000000000", "latin1");
  readonly #kind: number;

  constructor(kind: number) {
    this.#kind = kind;
  }

  /** @returns a fresh string: the same for the same arguments, which are whole numbers below 2³². */
  write(number: number, place: number): string {
    const bytes = this.#bytes;
    bytes[PREFIX_LENGTH - 2] = DIGIT_0 + (place % TENANTS);
    const words = [mix(number), mix(number + 0x9e3779b9), mix(number ^ this.#kind), place];
    // 30 digits: the last eight are the place, the 22 before it are taken from three mixed words.
    for (let i = 0; i < DIGITS.length; i++) {
      const fromEnd = DIGITS.length - 1 - i;
      const word = words[3 - (fromEnd >> 3)] ?? 0;
      const digit = (word >>> (4 * (fromEnd & 7))) & 15;
      bytes[PREFIX_LENGTH + (DIGITS[i] ?? 0)] = digit < 10 ? DIGIT_0 + digit : DIGIT_A + digit - 10;
    }
    return bytes.toString("latin1");
  }
}

/** @returns the `place` that an id was written with. */
export function placeOf(id: string): number {
  let place = 0;
  for (let at = ID_LENGTH - PLACE_DIGITS; at < ID_LENGTH; at++) {
    const code = id.charCodeAt(at);
    place = place * 16 + (code < DIGIT_A ? code - DIGIT_0 : code - DIGIT_A + 10);
  }
  return place;
}

/** Bytes of ids, to make fresh strings from: what an agent says of a call comes as new bytes each time. */
export class IdBytes {
  readonly #bytes: Buffer;
  readonly #free: number[] = [];
  #used = 0;

  constructor(idsMax: number) {
    this.#bytes = Buffer.alloc(idsMax * ID_LENGTH);
  }

  /** @returns a handle. @throws when more than `idsMax` are kept. */
  keep(id: string): number {
    const handle = this.#free.pop() ?? this.#used++;
    if ((handle + 1) * ID_LENGTH > this.#bytes.length) throw new Error(`more than ${handle} ids are kept`);
    this.#bytes.write(id, handle * ID_LENGTH, ID_LENGTH, "latin1");
    return handle;
  }

  drop(handle: number): void {
    this.#free.push(handle);
  }

  fresh(handle: number): string {
    return this.#bytes.toString("latin1", handle * ID_LENGTH, (handle + 1) * ID_LENGTH);
  }
}
