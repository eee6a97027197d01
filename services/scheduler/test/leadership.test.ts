import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Leadership, type LeadershipEffect, type LeadershipEvent } from "../src/leadership.ts";

const config = { leader: "me", leaseMs: 20_000, leaseMarginMs: 2_000, standbyMs: 3_000 };
const lease = (seq: number, leader?: string): LeadershipEvent => ({ kind: "leaseRead", lease: { seq, leader } });
const stored = (seq: number) => ({ kind: "stored", seq }) as const;

/** Leads since `at` with lease 11 and epoch 12. */
function leading(at = 0): Leadership {
  const leadership = new Leadership(config, at);
  leadership.react(lease(0), at);
  leadership.react({ kind: "leaseWritten", result: stored(11), sentAt: at }, at);
  expect(leadership.react({ kind: "epochWritten", result: stored(12) }, at)).toEqual([{ kind: "lead", epoch: 12 }]);
  return leadership;
}

describe("a standby", () => {
  it("leads at once when nobody ever did", () => {
    const leadership = new Leadership(config, 0);
    expect(leadership.react({ kind: "tick" }, 0)).toEqual([{ kind: "readLease" }]);
    expect(leadership.react(lease(0), 1)).toEqual([{ kind: "writeLease", expect: 0 }]);
    expect(leadership.react({ kind: "leaseWritten", result: stored(4), sentAt: 1 }, 2)).toEqual([
      { kind: "writeEpoch", leaseSeq: 4 },
    ]);
    expect(leadership.react({ kind: "epochWritten", result: stored(5) }, 3)).toEqual([{ kind: "lead", epoch: 5 }]);
  });

  it("leads at once when the lease was given back", () => {
    const leadership = new Leadership(config, 0);
    leadership.react(lease(4, "other"), 0);
    expect(leadership.react(lease(9), 500)).toEqual([{ kind: "writeLease", expect: 9 }]);
  });

  it("counts from the first answer that it gets: making the streams of a cluster may have taken longer", () => {
    const leadership = new Leadership(config, 0);
    expect(leadership.react(lease(4, "other"), 10_000)).toEqual([]);
    expect(leadership.react(lease(4, "other"), 13_000)).toEqual([{ kind: "writeLease", expect: 4 }]);
  });

  it("takes a lease that has not moved for 3 s, not sooner", () => {
    const leadership = new Leadership(config, 0);
    expect(leadership.react(lease(4, "other"), 100)).toEqual([]);
    expect(leadership.react(lease(4, "other"), 3_099)).toEqual([]);
    expect(leadership.react(lease(4, "other"), 3_100)).toEqual([{ kind: "writeLease", expect: 4 }]);
  });

  it.each<[string, LeadershipEvent]>([
    ["beats", { kind: "beat", leader: "other" }],
    ["moves its lease", lease(5, "other")],
  ])("stays calm while the leader %s", (_name, sign) => {
    const leadership = new Leadership(config, 0);
    leadership.react(lease(4, "other"), 0);
    leadership.react(sign, 2_000);
    const seq = sign.kind === "beat" ? 4 : 5;
    expect(leadership.react(lease(seq, "other"), 4_999)).toEqual([]);
    expect(leadership.react(lease(seq, "other"), 5_000)).toHaveLength(1);
  });

  it("never takes over without an answer from NATS", () => {
    const leadership = new Leadership(config, 0);
    for (let at = 0; at < 100_000; at += 500) {
      expect(leadership.react({ kind: "tick" }, at)).toEqual([{ kind: "readLease" }]);
      expect(leadership.react({ kind: "leaseRead", lease: undefined }, at)).toEqual([]);
    }
  });

  it.each(["refused", "unknown"] as const)("waits again when its lease is %s", (kind) => {
    const leadership = new Leadership(config, 0);
    leadership.react(lease(4, "other"), 3_000);
    expect(leadership.react({ kind: "leaseWritten", result: { kind }, sentAt: 3_000 }, 3_100)).toEqual([]);
    expect(leadership.react(lease(4, "other"), 6_000)).toEqual([]);
    expect(leadership.react(lease(4, "other"), 6_100)).toHaveLength(1);
  });

  it.each(["refused", "unknown"] as const)("does not lead when its epoch is %s", (kind) => {
    const leadership = new Leadership(config, 0);
    leadership.react(lease(0), 0);
    leadership.react({ kind: "leaseWritten", result: stored(4), sentAt: 0 }, 0);
    expect(leadership.react({ kind: "epochWritten", result: { kind } }, 1)).toEqual([]);
    expect([leadership.isLeading, leadership.ownLeaseSeq]).toEqual([false, undefined]);
  });

  it("writes one lease at a time", () => {
    const leadership = new Leadership(config, 0);
    leadership.react(lease(0), 0);
    expect(leadership.react({ kind: "tick" }, 500)).toEqual([]);
    expect(leadership.react(lease(0), 500)).toEqual([]);
  });
});

describe("a leader", () => {
  it("renews its lease each quarter of it", () => {
    const leadership = leading();
    expect(leadership.react({ kind: "tick" }, 4_999)).toEqual([]);
    expect(leadership.react({ kind: "tick" }, 5_000)).toEqual([{ kind: "writeLease", expect: 11 }]);
    leadership.react({ kind: "leaseWritten", result: stored(15), sentAt: 5_000 }, 5_100);
    expect(leadership.ownLeaseSeq).toBe(15);
    expect(leadership.react({ kind: "tick" }, 10_000)).toEqual([{ kind: "writeLease", expect: 15 }]);
  });

  it("sends no second renewal while the first has no answer: it would refuse itself", () => {
    const leadership = leading();
    leadership.react({ kind: "tick" }, 5_000);
    expect(leadership.react({ kind: "tick" }, 5_500)).toEqual([]);
    leadership.react({ kind: "leaseWritten", result: { kind: "unknown" }, sentAt: 5_000 }, 6_000);
    expect(leadership.react({ kind: "tick" }, 6_500)).toHaveLength(1);
  });

  it.each(["refused", "unknown"] as const)("asks whose the lease is when a renewal is %s", (kind) => {
    const leadership = leading();
    const answer: LeadershipEvent = { kind: "leaseWritten", result: { kind }, sentAt: 5_000 };
    expect(leadership.react(answer, 5_100)).toEqual([{ kind: "readLease" }]);
    expect(leadership.react(lease(16, "me"), 5_200)).toEqual([]);
    expect(leadership.react({ kind: "tick" }, 5_500)).toEqual([{ kind: "writeLease", expect: 16 }]);
    leadership.react({ ...answer, sentAt: 5_500 }, 5_600);
    expect(leadership.react(lease(20, "other"), 5_700)).toMatchObject([{ kind: "stepDown" }]);
  });

  it("is not brought down by an answer to a question that it asked as a standby", () => {
    expect(leading().react(lease(4, "other"), 100)).toEqual([]);
  });

  it("may plan until the lease's end less the margin, counted from when the renewal was sent", () => {
    const leadership = leading();
    expect([leadership.mayPlan(17_999), leadership.mayPlan(18_000)]).toEqual([true, false]);
    leadership.react({ kind: "leaseWritten", result: stored(15), sentAt: 5_000 }, 9_000);
    expect([leadership.mayPlan(22_999), leadership.mayPlan(23_000)]).toEqual([true, false]);
  });

  it("is calm about its own beat", () => {
    expect(leading().react({ kind: "beat", leader: "me" }, 1)).toEqual([]);
  });
});

/** A bucket with compare-and-set, whose answers come late, are lost or come after their write was done twice. */
class Bucket {
  private seq = 0;
  private readonly keys = new Map<string, { seq: number; leader: string }>();
  readonly epochs: number[] = [];

  lease() {
    const entry = this.keys.get("lease");
    return { seq: entry?.seq ?? 0, leader: entry?.leader };
  }

  write(key: "lease" | "epoch", leader: string, expectLease: number) {
    if (this.lease().seq !== expectLease) return { kind: "refused" } as const;
    this.keys.set(key, { seq: ++this.seq, leader });
    if (key === "epoch") this.epochs.push(this.seq);
    return stored(this.seq);
  }
}

describe("two schedulers on one bucket", () => {
  it("never lead with the same epoch, and each new leader has a higher one", () => {
    const step = fc.record({
      who: fc.nat({ max: 1 }),
      ms: fc.nat({ max: 4_000 }),
      fate: fc.constantFrom("done", "done", "done", "answer lost", "write lost", "late"),
      beats: fc.boolean(),
    });
    const property = fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
      const bucket = new Bucket();
      const both = ["a", "b"].map((leader) => new Leadership({ ...config, leader }, 0));
      const late: { who: number; event: LeadershipEvent }[] = [];
      const epochs: number[] = [];
      let at = 0;
      const feed = (who: number, event: LeadershipEvent, fate: string): void => {
        for (const effect of both[who]?.react(event, at) ?? []) carryOut(who, effect, fate);
      };
      const answer = (who: number, event: LeadershipEvent, fate: string): void => {
        if (fate === "late") late.push({ who, event });
        else feed(who, event, fate);
      };
      const carryOut = (who: number, effect: LeadershipEffect, fate: string): void => {
        const leader = who === 0 ? "a" : "b";
        const put = (key: "lease" | "epoch", expect: number) =>
          fate === "write lost" ? ({ kind: "unknown" } as const) : bucket.write(key, leader, expect);
        const seen = <T>(result: T) => (fate === "answer lost" ? ({ kind: "unknown" } as const) : result);
        if (effect.kind === "readLease") {
          const isLost = fate === "answer lost" || fate === "write lost";
          answer(who, { kind: "leaseRead", lease: isLost ? undefined : bucket.lease() }, fate);
        } else if (effect.kind === "writeLease") {
          answer(who, { kind: "leaseWritten", result: seen(put("lease", effect.expect)), sentAt: at }, fate);
        } else if (effect.kind === "writeEpoch") {
          answer(who, { kind: "epochWritten", result: seen(put("epoch", effect.leaseSeq)) }, fate);
        } else if (effect.kind === "lead") epochs.push(effect.epoch);
        // Who steps down ends, and is started again as a standby.
        else both[who] = new Leadership({ ...config, leader }, at);
      };
      for (const { who, ms, fate, beats } of steps) {
        at += ms;
        const due = late.splice(0, fate === "late" ? 0 : late.length);
        for (const one of due) feed(one.who, one.event, "done");
        if (beats && both[who]?.isLeading) feed(1 - who, { kind: "beat", leader: who === 0 ? "a" : "b" }, "done");
        feed(who, { kind: "tick" }, fate);
      }
      expect(new Set(epochs).size).toBe(epochs.length);
      expect(epochs.every((epoch) => bucket.epochs.includes(epoch))).toBe(true);
    });
    fc.assert(property, { numRuns: 300 });
  });
});
