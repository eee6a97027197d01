/** Mixes whole numbers into 32 bits (the finalizer of MurmurHash3 by Austin Appleby, public domain). */
export function hash(...values: number[]): number {
  let h = 0x9747b28c;
  for (const value of values) {
    h = mix(h ^ (value | 0));
    h = mix(h ^ Math.floor(value / 4_294_967_296));
  }
  return h >>> 0;
}

/** The same for text, by UTF-16 unit. */
export function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return mix(h) >>> 0;
}

function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
