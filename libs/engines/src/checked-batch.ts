/** What every engine demands of a step's batch; anything else is a broken invariant of the agent. */
import type { EngineCall } from "./port.ts";

/**
 * @param own the engine's own form of a call. @throws when it is another engine's.
 * @throws when the batch is empty, too large, holds a call twice or a closed one.
 */
export function checkedBatch<C extends EngineCall & { readonly closed: boolean }>(
  batch: readonly EngineCall[],
  batchCallsMax: number,
  own: (call: EngineCall) => C,
): C[] {
  if (batch.length === 0 || batch.length > batchCallsMax || new Set(batch).size !== batch.length) {
    throw new Error(`a batch of ${batch.length} calls, or one of them twice`);
  }
  return batch.map((call) => {
    const mine = own(call);
    if (mine.closed) throw new Error(`call ${call.key} is closed`);
    return mine;
  });
}
