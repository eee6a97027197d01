/**
 * What a terminal record means to the client of the call.
 */
import {
  type ChatCompletion,
  type ErrorCode,
  errorTable,
  finishReasons,
  isErrorCode,
  type outcomeBodySchema,
  type TerminalStatus,
} from "@autellix/protocol";
import { z } from "zod";
import type { Failure } from "./events.ts";

/** Body of a terminal record as the schema gives it. */
export type Outcome = z.output<typeof outcomeBodySchema>;

/** `elsewhere`: the answer is in the object store; the record must be read with it. */
export type Verdict =
  | { kind: "answer"; completion: ChatCompletion }
  | { kind: "failure"; failure: Failure }
  | { kind: "elsewhere" };

const tokens = z.int().nonnegative();
/** Only what is used here; everything else passes through. */
const completionSchema = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        message: z.looseObject({ content: z.string().nullish() }),
        finish_reason: z.enum(finishReasons),
      }),
    )
    .length(1),
  usage: z.looseObject({ prompt_tokens: tokens, completion_tokens: tokens, total_tokens: tokens }),
  autellix: z.looseObject({ call_id: z.string() }),
});

const codeOfStatus: Record<Exclude<TerminalStatus, "completed">, ErrorCode> = {
  failed: "engine_error",
  cancelled: "cancelled",
  expired: "expired",
  dead: "dead",
};

export function verdictOf(outcome: Outcome): Verdict {
  if (outcome.status !== "completed") {
    const { code: told, message, param } = outcome.error ?? {};
    const code = told !== undefined && isErrorCode(told) ? told : codeOfStatus[outcome.status];
    return { kind: "failure", failure: { code, message: message ?? errorTable[code].meaning, param } };
  }
  if (outcome.response === undefined) {
    if (outcome.response_object !== undefined) return { kind: "elsewhere" };
    return { kind: "failure", failure: { code: "result_expired", message: errorTable.result_expired.meaning } };
  }
  if (!completionSchema.safeParse(outcome.response).success) {
    return {
      kind: "failure",
      failure: { code: "internal_error", message: "the stored answer is not a chat completion" },
    };
  }
  return { kind: "answer", completion: outcome.response };
}
