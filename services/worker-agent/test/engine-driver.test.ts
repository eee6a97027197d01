import { type Engine, openSimulatedEngine } from "@autellix/engines";
import { parseChat } from "@autellix/protocol";
import { describe, expect, it } from "vitest";
import { EngineDriver } from "../src/engine-driver.ts";
import type { Happening } from "../src/events.ts";

describe("the driver of an engine", () => {
  it("closes a call that opens when its agent has gone already, and tells nobody", async () => {
    const engine = openSimulatedEngine({ models: ["m"], preset: "zero" });
    const mayOpen = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<string>();
    const slow = Object.assign(Object.create(engine) as Engine, {
      open: async (call: Parameters<Engine["open"]>[0]) => {
        await mayOpen.promise;
        return await engine.open(call);
      },
      close: async (call: Parameters<Engine["close"]>[0]) => {
        await engine.close(call);
        closed.resolve(call.key);
      },
    });
    const told: Happening[] = [];
    const driver = new EngineDriver(slow, (happening) => told.push(happening), closed.reject);
    const body = { messages: [{ role: "user", content: "hello" }] };
    driver.carryOut({
      kind: "open",
      id: 1,
      key: "t/a",
      chat: parseChat(body),
      body,
      forcedIds: [],
      continues: undefined,
    });
    await driver.closeAll();
    mayOpen.resolve();
    expect([await closed.promise, told]).toEqual(["t/a", []]);
  });
});
