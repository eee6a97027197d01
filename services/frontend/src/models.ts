/**
 * Follows the list of models in the bucket, for good: it may not exist yet, and a watch can end.
 */
import { type Bus, decodeAs, fromToken, keys, readKeys, watchKeys } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { z } from "zod";

const WATCH_PAUSE_MS = 500;
const WATCH_WARN_TRIES = 20;

const entrySchema = z.object({ model: z.string(), pools: z.array(z.string()) });

type ModelEvent = { kind: "modelSeen"; model: string; pools: readonly string[] | undefined } | { kind: "modelsRead" };

export function watchModels(bus: Bus, log: Logger, tell: (event: ModelEvent) => void): { stop(): void } {
  let stopped = false;
  let stopWatch = () => {};
  const seen = (key: string, bytes: Uint8Array | undefined) => {
    const model = fromToken(key.slice(key.indexOf(".") + 1));
    try {
      tell({ kind: "modelSeen", model, pools: bytes && decodeAs(entrySchema, bytes).pools });
    } catch (error) {
      log.error({ key, reason: String(error) }, "an entry of the list of models is invalid");
    }
  };
  const follow = async () => {
    for (let tries = 1; !stopped; tries++) {
      try {
        for (const { key, bytes } of await readKeys(bus, keys.models)) seen(key, bytes);
        tell({ kind: "modelsRead" });
        const watch = await watchKeys(bus, keys.models, seen);
        stopWatch = () => watch.stop();
        if (stopped) watch.stop();
        tries = 0;
        await watch.done;
      } catch (error) {
        if (stopped) return;
        const level = tries % WATCH_WARN_TRIES === 0 ? "warn" : "debug";
        log[level]({ reason: String(error) }, "the list of models cannot be read: it is tried again");
      }
      await new Promise((resolve) => setTimeout(resolve, WATCH_PAUSE_MS));
    }
  };
  void follow();
  return {
    stop: () => {
      stopped = true;
      stopWatch();
    },
  };
}
