/** What every engine must do. Each adapter's tests call `engineContract`. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { answerTests } from "./contract/answers.ts";
import { batchTests } from "./contract/batches.ts";
import { contextTests } from "./contract/contexts.ts";
import { parameterTests } from "./contract/parameters.ts";
import { makeRig, type Rig, type Subject, TRAITS, type Traits } from "./contract/subject.ts";

export * from "./contract/subject.ts";

/** @param traits what differs from an engine in this process with ids, an exact batch and one tier. */
export function engineContract(
  name: string,
  make: () => Promise<Subject>,
  dispose: (subject: Subject) => Promise<void>,
  traits: Partial<Traits> = {},
): void {
  const can = { ...TRAITS, ...traits };
  describe(`${name} keeps the contract of the engine port`, () => {
    const rig = {} as Rig;
    beforeAll(async () => {
      Object.assign(rig, await makeRig(await make(), can));
    });
    afterAll(() => dispose(rig.subject));

    it("says of itself what it can", () => {
      const { info } = rig.engine;
      expect([(info.hostBlocks ?? 0) > 0, info.retains ?? false, info.forwards ?? false]).toEqual([
        can.hostTier,
        can.retains,
        can.forwards,
      ]);
      if (can.hostTier) expect(info).toMatchObject({ hostBlocks: 64, blockTokens: 16, preemption: "swap" });
    });
    batchTests(rig, can);
    answerTests(rig, can);
    contextTests(rig, can);
    parameterTests(rig, can);
  });
}
