/**
 * Where the tool calls of an answer's deltas belong: at the index that the server gives. Some give none, or the same to
 * all: then another id with a name begins another call, and what follows is of the last one that began there. (An id
 * alone begins none: some servers make a new one for each delta.)
 */
export class ToolCallPlaces {
  readonly #byIndex = new Map<number, { place: number; id: string }>();
  readonly #taken = new Set<number>();

  /** @param index as given, else the entry's place in its list. @param name of the called function. */
  of(index: number, id: unknown, name: unknown): number {
    const own = isSaid(id) ? id : "";
    const last = this.#byIndex.get(index);
    if (last !== undefined && !(own !== "" && last.id !== "" && last.id !== own && isSaid(name))) {
      last.id ||= own;
      return last.place;
    }
    const place = this.#taken.has(index) ? 1 + Math.max(...this.#taken) : index;
    this.#taken.add(place);
    this.#byIndex.set(index, { place, id: own });
    return place;
  }
}

function isSaid(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}
