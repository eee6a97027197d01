/** What merging an answer's deltas and looking at what was shown of it have in common about tool calls. */

/** Fields of a tool call, and of what it calls, that come whole: of one that comes again the last counts. */
export const WHOLE_FIELDS: ReadonlySet<string> = new Set(["type", "name"]);
/** The type of a call whose server does not say it. */
export const DEFAULT_TYPE = "function";

/** The name in `function`, or in what a call of another type has: `custom`. */
export function calledName(call: Record<string, unknown>): unknown {
  for (const called of [call.function, call.custom]) {
    if (typeof called === "object" && called !== null && "name" in called) return called.name;
  }
  return undefined;
}

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
