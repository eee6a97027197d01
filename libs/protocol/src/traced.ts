/** What plans say of traced calls, for the spans that agents send (`call-spans.ts`). */
import { z } from "zod";
import { NAME_PATTERN } from "./ids.ts";

const count = z.int().nonnegative();
const millis = z.number().nonnegative();

/** What a leader knows of a call whose program is traced, for the spans that its agent sends. Times are the stream's. */
export const tracedSchema = z.object({
  /** When the plan was made: agents map their clocks by it. */
  atMs: millis,
  /** Start of the program's root span. */
  programAtMs: millis,
  arrivedAtMs: millis,
  /** The queues that it waited in until this plan, in order; 0 = Q1. */
  waits: z.array(z.object({ level: count, fromMs: millis })),
  /** Why it waited, and for whom: the batch that ran while it did. */
  behind: z
    .object({ reason: z.enum(["slots", "memory", "engine"]), calls: count, programs: z.array(z.string()) })
    .optional(),
  /** Earlier attempts, the last ones. `engine` is absent when another leader dispatched it. */
  attempts: z
    .array(
      z.object({
        attempt: z.int().positive(),
        engine: z.string().regex(NAME_PATTERN).optional(),
        cause: z.enum(["engine_lost", "crash", "take_over"]),
        fromMs: millis,
        lostAtMs: millis,
      }),
    )
    .optional(),
  /** When its program's last call had ended, if nothing of it was active when this one came. */
  idleFromMs: millis.optional(),
});

export type Traced = z.infer<typeof tracedSchema>;
