/** Server-sent events: bytes in, the data of each event out. */
import { StringDecoder } from "node:string_decoder";
import { ServerFailure } from "./failure.ts";

export class EventReader {
  readonly #decoder = new StringDecoder("utf8");
  readonly #lineCharsMax: number;
  #rest = "";
  #data: string[] = [];
  #dataChars = 0;

  constructor(lineCharsMax: number) {
    this.#lineCharsMax = lineCharsMax;
  }

  /** @returns the data of the events that these bytes complete. @throws ServerFailure at an event above the limit. */
  push(bytes: Uint8Array): string[] {
    const text = this.#rest + this.#decoder.write(bytes);
    const events: string[] = [];
    let from = 0;
    for (let end = text.indexOf("\n", from); end >= 0; end = text.indexOf("\n", from)) {
      const line = text.slice(from, text[end - 1] === "\r" ? end - 1 : end);
      from = end + 1;
      if (line === "") this.#end(events);
      else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
        this.#dataChars += line.length;
      }
    }
    this.#rest = text.slice(from);
    if (this.#rest.length > this.#lineCharsMax || this.#dataChars > this.#lineCharsMax) {
      throw new ServerFailure("broken", `an event of more than ${this.#lineCharsMax} characters`);
    }
    return events;
  }

  #end(events: string[]): void {
    if (this.#data.length > 0) events.push(this.#data.join("\n"));
    this.#data = [];
    this.#dataChars = 0;
  }
}
