import { openSimulatedEngine } from "@autellix/engines";
import { readPreset } from "@autellix/engines/preset-file";
import { Metrics } from "@autellix/runtime";
import { expect, it } from "vitest";
import { AgentMetrics } from "../src/metrics.ts";
import { entry, Rig } from "./support/rig.ts";

it("an agent's metrics are the engine's counters, its steps, and what it holds", async () => {
  const engine = openSimulatedEngine({ models: ["m"], preset: readPreset("zero"), batchCallsMax: 4 });
  const registry = new Metrics();
  const metrics = new AgentMetrics(registry, engine, { pool: "p", engine: "e" });
  const read = async () =>
    (await registry.text())
      .split("\n")
      .filter((line) => !line.startsWith("#"))
      .map((line) => line.replace(/,?pool="p",engine="e"/, ""));
  // Out of its pool: nothing of calls.
  expect((await read()).filter((line) => line.startsWith("autellix_held_calls{"))).toEqual([]);

  const rig = new Rig();
  metrics.follow(() => rig.machine.use());
  rig.plan({ run: [entry("t/a"), entry("t/b")], reserve: [entry("t/c")] });
  rig.ready("t/a", "t/b");
  rig.atMs += 250;
  rig.stepped({ "t/a": {}, "t/b": { tokens: 0, ids: [], text: "" } });
  metrics.stepped(20, 2);
  metrics.stepped(0, 0);
  const head = { kind: "outcome", status: "completed", code: undefined, attempt: 1, epoch: 1, engine: "e" } as const;
  metrics.outcomeWritten(head, { kind: "stored", seq: 1 });
  metrics.outcomeWritten(head, { kind: "full" });
  expect(await read()).toEqual(
    expect.arrayContaining([
      'autellix_held_calls{status="running"} 2',
      'autellix_held_calls{status="fetching"} 1',
      'autellix_batch_calls_bucket{le="1"} 0',
      'autellix_batch_calls_bucket{le="2"} 1',
      "autellix_batch_calls_count{} 1",
      "autellix_step_seconds_sum{} 0.02",
      "autellix_first_token_seconds_count{} 1",
      'autellix_outcomes_total{status="completed",code=""} 1',
      'autellix_outcome_writes_total{status="full"} 1',
      "autellix_unsent_outcomes{} 0",
      "autellix_batch_calls_max{} 4",
      "autellix_engine_steps_total{} 0",
      "autellix_engine_up{} 1",
    ]),
  );
});
