import { describe, expect, it } from "vitest";
import { Liveness } from "../src/liveness.ts";

const TICK_MS = 250;

/** An agent that is silent from now on, while `echoes` says whether the scheduler hears itself. */
function silence(ms: number, echoes: (at: number) => boolean, tickMs = TICK_MS) {
  const liveness = new Liveness({ agentSuspectMs: 2_000, agentLostMs: 6_000 });
  liveness.tick(0);
  liveness.heard("e", "i1");
  const changes = { suspectedAt: -1, lostAt: -1 };
  for (let at = tickMs; at <= ms; at += tickMs) {
    if (echoes(at)) liveness.echo(at);
    const { suspected, lost } = liveness.tick(at);
    if (suspected.length > 0) changes.suspectedAt = at;
    if (lost.length > 0) changes.lostAt = at;
  }
  return { liveness, ...changes };
}

describe("a silent agent", () => {
  it("is suspected after 2 s, once, and lost after 6 s", () => {
    expect(silence(10_000, () => true)).toMatchObject({ suspectedAt: 2_000, lostAt: 6_000 });
  });

  it("is neither while the scheduler does not hear itself", () => {
    expect(silence(60_000, () => false)).toMatchObject({ suspectedAt: -1, lostAt: -1 });
  });

  it("is given the time that the scheduler was cut off", () => {
    const { suspectedAt, lostAt } = silence(30_000, (at) => at < 1_000 || at > 20_000);
    expect(suspectedAt).toBeGreaterThan(20_000);
    expect(lostAt - suspectedAt).toBe(4_000);
  });

  it("is not lost in one tick of a process that stood still", () => {
    const { lostAt } = silence(60_000, () => true, 10_000);
    expect(lostAt).toBe(-1);
  });

  it("is up again when it is heard", () => {
    const { liveness } = silence(3_000, () => true);
    expect(liveness.heard("e", "i1").isBack).toBe(true);
    expect(liveness.heard("e", "i1").isBack).toBe(false);
    expect(liveness.agents.get("e")).toEqual({ incarnation: "i1", silentMs: 0, suspected: false, draining: false });
  });

  it("leaves once, until another one comes", () => {
    const liveness = new Liveness({ agentSuspectMs: 2_000, agentLostMs: 6_000 });
    const said = [false, true, true, false].map((draining) => liveness.heard("e", "i1", draining).leaves);
    expect([said, liveness.stateOf("e")]).toEqual([[false, true, false, false], "draining"]);
    expect([liveness.heard("e", "i2").leaves, liveness.stateOf("e")]).toEqual([false, "up"]);
  });

  it("is another agent when it comes back in a new incarnation", () => {
    const { liveness } = silence(3_000, () => true);
    expect(liveness.heard("e", "i2").isBack).toBe(false);
    expect(liveness.agents.get("e")).toMatchObject({ incarnation: "i2", suspected: false });
  });
});
