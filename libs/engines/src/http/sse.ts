/** Server-sent events: bytes in, the data of each event out. */
import { StringDecoder } from "node:string_decoder";
import { ServerFailure } from "./failure.ts";

export class EventReader {
  readonly #decoder = new StringDecoder("utf8");
  readonly #lineCharsMax: number;
  #rest = "";
  #data: string[] = [];
  #dataChars = 0;
  #isError = false;
  /** The last bytes were of an event: comments only keep a connection open, also of a server that hangs. */
  moved = false;

  constructor(lineCharsMax: number) {
    this.#lineCharsMax = lineCharsMax;
  }

  /** @returns the data of the events that these bytes complete. @throws ServerFailure at an event above the limit. */
  push(bytes: Uint8Array): string[] {
    const text = this.#rest + this.#decoder.write(bytes);
    const events: string[] = [];
    this.moved = false;
    let from = 0;
    for (let end = text.indexOf("\n", from); end >= 0; end = text.indexOf("\n", from)) {
      const line = text.slice(from, text[end - 1] === "\r" ? end - 1 : end);
      from = end + 1;
      this.#take(line, events);
    }
    this.#rest = text.slice(from);
    this.moved ||= this.#rest !== "" && !this.#rest.startsWith(":");
    if (this.#rest.length > this.#lineCharsMax || this.#dataChars > this.#lineCharsMax) {
      throw new ServerFailure("broken", `an event of more than ${this.#lineCharsMax} characters`);
    }
    return events;
  }

  /** @returns the last event, which some servers send without the empty line behind it. */
  end(): string[] {
    const events: string[] = [];
    this.#take(this.#rest + this.#decoder.end(), events);
    this.#rest = "";
    this.#end(events);
    return events;
  }

  #take(line: string, events: string[]): void {
    if (line === "") {
      this.#end(events);
      return;
    }
    if (line.startsWith(":")) return;
    this.moved = true;
    if (line.startsWith("event:")) this.#isError = line.slice(6).trim() === "error";
    else if (line.startsWith("data:")) {
      this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      this.#dataChars += line.length;
    }
  }

  #end(events: string[]): void {
    const data = this.#data.join("\n");
    if (data !== "") events.push(this.#isError ? asError(data) : data);
    this.#data = [];
    this.#dataChars = 0;
    this.#isError = false;
  }
}

/** What is an error by its event's name alone says so in its data, too. */
function asError(data: string): string {
  let error: unknown = data;
  try {
    error = JSON.parse(data);
  } catch {
    // It is a sentence.
  }
  return typeof error === "object" && error !== null && "error" in error ? data : JSON.stringify({ error });
}
