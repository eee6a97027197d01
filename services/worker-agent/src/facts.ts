/** What this agent says of itself when it is asked: what an operator wants checked. */
import { statfs } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import type { Engine } from "@autellix/engines";
import type { OwnFacts } from "@autellix/protocol";
import type { EngineConfig } from "./open-engine.ts";

/** The host tier's own defaults, see `HostTier`. */
const HOST_KV_DIR = "/dev/shm";
const HOST_KV_BYTES = 1024 ** 3;
/** A server keeps calls waiting for a moment when they come; what waits at each of these looks has no slot. */
const LOOKS = 4;
const LOOK_MS = 100;

export async function agentFacts(
  config: EngineConfig,
  pool: string,
  engineId: string,
  engine: Engine,
): Promise<OwnFacts> {
  const [slots, hostTier] = await Promise.all([slotsOf(config, engine), hostTierOf(config)]);
  return {
    service: "worker-agent",
    pool,
    engine: engineId,
    engineKind: config.AUTELLIX_ENGINE,
    slots,
    ...(hostTier ? { hostTier } : {}),
  };
}

async function slotsOf(config: EngineConfig, engine: Engine): Promise<NonNullable<OwnFacts["slots"]>> {
  const used = engine.info.batchCallsMax;
  const slots: NonNullable<OwnFacts["slots"]> = { used };
  if (config.AUTELLIX_SLOTS !== undefined) slots.asked = config.AUTELLIX_SLOTS;
  if (!engine.slotsNow) return slots;
  let queued = Number.POSITIVE_INFINITY;
  for (let look = 0; look < LOOKS && queued > 0; look++) {
    if (look > 0) await pause(LOOK_MS);
    // A server that does not answer has no fact; whether it is down the agent finds out by itself.
    const now = await engine.slotsNow().catch(() => ({ slots: undefined, queued: undefined }));
    if (now.slots !== undefined) slots.server = now.slots;
    queued = Math.min(queued, now.queued ?? 0);
  }
  return { ...slots, queued };
}

/** @returns undefined where no tier is wanted, or nothing can be said of its folder. */
async function hostTierOf(config: EngineConfig): Promise<OwnFacts["hostTier"]> {
  const wanted = config.AUTELLIX_HOST_KV_BYTES_MAX;
  if (config.AUTELLIX_ENGINE !== "llama" || wanted === 0) return undefined;
  const dir = config.AUTELLIX_HOST_KV_DIR ?? HOST_KV_DIR;
  try {
    const { bsize, blocks, bavail } = await statfs(dir);
    return {
      dir,
      wantedBytes: wanted ?? HOST_KV_BYTES,
      isDefault: wanted === undefined,
      fileSystemBytes: blocks * bsize,
      freeBytes: bavail * bsize,
    };
  } catch {
    // Systems without such a folder have no tier; the engine has said so in its log.
    return undefined;
  }
}
