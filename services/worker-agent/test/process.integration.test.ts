import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeTinyModel } from "@autellix/engines/tiny-model";
import type { ChatCompletion } from "@autellix/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTestNats, type TestNats } from "../../../test/support/nats.ts";
import { chat, eventually, openStage, outcomeOf, POOL, type Stage, TENANT } from "./support/stage.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

let nats: TestNats;
let folder: string;
beforeAll(async () => {
  nats = await startTestNats();
  folder = await mkdtemp(join(tmpdir(), "autellix-agent-"));
});
afterAll(async () => {
  await nats?.stop();
  await rm(folder, { recursive: true, force: true });
});

let stage: Stage;
const children: ChildProcess[] = [];
beforeEach(async () => {
  stage = await openStage(nats.url);
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  await stage.close();
});

function agent(engineId: string, env: Record<string, string>) {
  const child = spawn(process.execPath, [MAIN], {
    env: {
      PATH: process.env["PATH"],
      AUTELLIX_NATS_URL: nats.url,
      AUTELLIX_POOL: POOL,
      AUTELLIX_ENGINE_ID: engineId,
      AUTELLIX_MODEL_NAMES: "own,alias",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const said: string[] = [];
  child.stdout.on("data", (bytes) => said.push(String(bytes)));
  child.stderr.on("data", (bytes) => said.push(String(bytes)));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  return { child, exited, said: () => said.join("") };
}

const simulated = { AUTELLIX_ENGINE: "simulated", AUTELLIX_ENGINE_PRESET: "zero" };

describe("the process of a worker agent", () => {
  it("serves a call, and ends with exit code 0 and a goodbye when it is told to", async () => {
    const { child, exited, said } = agent("e1", { ...simulated, AUTELLIX_BATCH_CALLS_MAX: "3" });
    const hello = await stage.scheduler.report("e1", (r) => r.info !== undefined);
    expect(hello.info).toMatchObject({ kind: "simulated", models: ["own", "alias"], batchCallsMax: 3 });
    const secret = "a prompt that no log may hold";
    await stage.scheduler.plan("e1", { run: [await stage.call("first", chat(secret, { model: "alias" }))] });
    expect((await stage.frontend.ended(`${TENANT}/first`)).status).toBe("completed");
    child.kill("SIGTERM");
    expect(await exited).toBe(0);
    await eventually(() => stage.scheduler.messages.find((m) => m.kind === "exit" && m.engine === "e1"));
    expect(said()).toContain('"call":"default/first"');
    expect(said()).not.toContain(secret);
    expect(said()).not.toContain(stage.frontend.text(`${TENANT}/first`).slice(0, 12));
  });

  it("comes back from a crash under another incarnation", async () => {
    const first = agent("e2", simulated);
    const before = await stage.scheduler.report("e2", () => true);
    first.child.kill("SIGKILL");
    await first.exited;
    agent("e2", simulated);
    await stage.scheduler.report("e2", (r) => r.incarnation !== before.incarnation && r.info !== undefined);
  });

  it("says in one line which setting is wrong", async () => {
    const { exited, said } = agent("e3", { AUTELLIX_ENGINE: "llama" });
    expect(await exited).toBe(2);
    expect(said()).toContain("AUTELLIX_MODEL_FILE must name a GGUF file");
  });

  it("ends with one readable line when the model cannot be read", async () => {
    const { exited, said } = agent("e4", { AUTELLIX_MODEL_FILE: join(folder, "missing.gguf") });
    expect(await exited).toBe(1);
    expect(said()).toContain("missing.gguf");
  });

  it("runs a real model: calls are decoded together, and text is never cut inside a character", async () => {
    const modelFile = join(folder, "tiny.gguf");
    await writeTinyModel(modelFile, { seed: 1 });
    agent("e5", { AUTELLIX_MODEL_FILE: modelFile });
    await stage.scheduler.report("e5", (r) => r.info?.kind === "llama");
    const calls = await Promise.all(
      Array.from({ length: 4 }, (_, i) =>
        stage.call(`real-${i}`, chat(`number ${i}`, { max_tokens: 40, temperature: 0 })),
      ),
    );
    await stage.scheduler.plan("e5", { run: calls });
    for (const { call } of calls) {
      expect((await stage.frontend.ended(call)).status).toBe("completed");
      const outcome = outcomeOf(await stage.scheduler.ended(call.slice(TENANT.length + 1)));
      const completion = outcome.response as ChatCompletion;
      expect(completion.choices[0].message.content).toBe(stage.frontend.text(call));
      const items = stage.frontend.items.get(call) ?? [];
      expect(completion.usage.completion_tokens).toBe(items.reduce((sum, item) => sum + item.count, 0));
    }
    const report = await stage.scheduler.report("e5", (r) => r.finished.length === 4);
    expect(report.counters.batchMax).toBeGreaterThan(1);
  });
});
