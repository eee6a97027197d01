/** The bucket: programs, engines and models, each write fenced by the epoch where another leader could write too (S5). */
import { decode, deleteKey, encode, keys, lastSeqOfKey, readKey, validate, writeKey } from "@autellix/protocol";
import { z } from "zod";
import type { Effect } from "./events.ts";
import { type Io, PAUSE_MS, pause } from "./io.ts";

const MODEL_TRIES_MAX = 8;
const modelSchema = z.object({ model: z.string(), pools: z.array(z.string()) });

export class StateIo {
  readonly #io: Io;

  constructor(io: Io) {
    this.#io = io;
  }

  async storeProgram({ key, entry, ttlMs }: Extract<Effect, { kind: "storeProgram" }>): Promise<void> {
    const result = await writeKey(this.#io.bus, key, encode(entry), this.#fence(), ttlMs);
    this.#io.receive({ kind: "programStored", key, result: result.kind });
  }

  async storeEngine(engine: string): Promise<void> {
    await this.#check(writeKey(this.#io.bus, keys.engine(this.#io.pool, engine), encode({}), this.#fence()));
  }

  async dropEngine(engine: string): Promise<void> {
    await this.#check(deleteKey(this.#io.bus, keys.engine(this.#io.pool, engine), this.#fence()));
  }

  /** Adds the pool to the model's list, whoever writes beside us. */
  async storeModel(model: string): Promise<void> {
    const { bus, pool, log } = this.#io;
    const key = keys.model(model);
    for (let tries = 0; tries < MODEL_TRIES_MAX && !this.#io.stopped; tries++) {
      try {
        const entry = await readKey(bus, key);
        const pools = entry ? validate(modelSchema, decode(entry.bytes)).pools : [];
        if (pools.includes(pool)) return;
        const bytes = encode({ model, pools: [...pools, pool].sort() });
        const result = await writeKey(bus, key, bytes, { seq: entry?.seq ?? (await lastSeqOfKey(bus, key)) });
        if (result.kind === "stored") return;
      } catch (error) {
        log.warn({ err: error, model }, "model not stored yet");
      }
      await pause(PAUSE_MS);
    }
  }

  #fence(): { seq: number; key: string } {
    return { seq: this.#io.epoch, key: keys.epoch(this.#io.pool) };
  }

  async #check(writing: ReturnType<typeof writeKey>): Promise<void> {
    const result = await writing;
    if (result.kind === "refused") this.#io.stepDown("a state write was refused");
    if (result.kind === "unknown") this.#io.log.warn({ err: result.cause }, "a state write had no answer");
  }
}
