/**
 * Who leads a pool (design §4, Take-over): a lease for calm, an epoch for safety.
 *
 *   standby ─ nothing moved for `standbyMs`, or no lease ─► taking ─ lease, then epoch written ─► leading
 *      ▲                                                      │ refused or no answer                 │ lease refused
 *      └──────────────────────────────────────────────────────┘                                      ▼ step down
 *
 * A standby acts only on an answer from the lease's stream: that answer is its own echo over NATS, so one that is cut
 * off never acts. The epoch is the sequence of `epoch.<pool>`, written expecting the lease's own write.
 */
import type { KeyWriteResult } from "@autellix/protocol";

export interface LeadershipConfig {
  /** This process; new at each start. */
  leader: string;
  /** Time after its last renewal at which a holder that cannot renew stops planning. Longer than NATS's fail-over. */
  leaseMs: number;
  /** Subtracted from `leaseMs`: clocks that drift, answers on their way. */
  leaseMarginMs: number;
  /** A standby takes over when neither beat nor lease has moved for so long. */
  standbyMs: number;
}

export interface Lease {
  /** Sequence of the lease's last write, 0 when there never was one. */
  seq: number;
  /** Who holds it; undefined when it was given back or never taken. */
  leader: string | undefined;
}

export type LeadershipEvent =
  | { kind: "tick" }
  | { kind: "leaseRead"; lease: Lease | undefined }
  | { kind: "beat"; leader: string }
  | { kind: "leaseWritten"; result: KeyWriteResult; sentAt: number }
  | { kind: "epochWritten"; result: KeyWriteResult };

export type LeadershipEffect =
  | { kind: "readLease" }
  | { kind: "writeLease"; expect: number }
  /** Expecting the lease's sequence: who lost the lease meanwhile gets no epoch. */
  | { kind: "writeEpoch"; leaseSeq: number }
  | { kind: "lead"; epoch: number }
  | { kind: "stepDown"; reason: string };

export class Leadership {
  private readonly config: LeadershipConfig;
  private state: "standby" | "taking" | "leading" = "standby";
  private leaseSeq: number | undefined;
  private movedAt: number;
  private renewedAt = 0;
  /** One renewal at a time: a second one would expect what the first has just replaced. */
  private renewing = false;
  /** A renewal was refused or had no answer: the lease's stream says whose it is. */
  private checking = false;

  /** @param at a monotonic clock, ms. */
  constructor(config: LeadershipConfig, at: number) {
    this.config = config;
    this.movedAt = at;
  }

  get isLeading(): boolean {
    return this.state === "leading";
  }

  /** Whether the lease surely still holds: without it no plan leaves. */
  mayPlan(at: number): boolean {
    return this.isLeading && at < this.renewedAt + this.config.leaseMs - this.config.leaseMarginMs;
  }

  /** The lease to give back when this process ends in order: the next leader need not wait. */
  get ownLeaseSeq(): number | undefined {
    return this.isLeading ? this.leaseSeq : undefined;
  }

  react(event: LeadershipEvent, at: number): LeadershipEffect[] {
    switch (event.kind) {
      case "tick":
        return this.tick(at);
      case "beat":
        if (event.leader !== this.config.leader) this.movedAt = at;
        return [];
      case "leaseRead":
        return this.leaseRead(event.lease, at);
      case "leaseWritten":
        return this.leaseWritten(event.result, event.sentAt, at);
      case "epochWritten":
        return this.epochWritten(event.result, at);
    }
  }

  private tick(at: number): LeadershipEffect[] {
    if (this.state === "standby") return [{ kind: "readLease" }];
    if (this.state === "leading" && !this.renewing && at - this.renewedAt >= this.config.leaseMs / 4) {
      this.renewing = true;
      return [{ kind: "writeLease", expect: this.leaseSeq ?? 0 }];
    }
    return [];
  }

  private leaseRead(lease: Lease | undefined, at: number): LeadershipEffect[] {
    if (this.state === "leading") {
      const asked = this.checking;
      this.checking = false;
      // Not asked: a standby's question that was answered late.
      if (!asked || !lease) return [];
      if (lease.leader !== this.config.leader) return [{ kind: "stepDown", reason: "the lease is another's" }];
      this.leaseSeq = lease.seq;
      return [];
    }
    if (this.state === "taking" || !lease) return [];
    if (lease.seq !== this.leaseSeq) {
      // The first answer, too: what happened before it, while streams were made, this process has not seen.
      this.movedAt = at;
      this.leaseSeq = lease.seq;
    }
    const free = lease.leader === undefined;
    if (!free && at - this.movedAt < this.config.standbyMs) return [];
    this.state = "taking";
    return [{ kind: "writeLease", expect: lease.seq }];
  }

  private leaseWritten(result: KeyWriteResult, sentAt: number, at: number): LeadershipEffect[] {
    if (this.state === "leading") {
      this.renewing = false;
      if (result.kind !== "stored") {
        // Refused may mean that an earlier renewal, whose answer was lost, is stored.
        this.checking = true;
        return [{ kind: "readLease" }];
      }
      this.leaseSeq = result.seq;
      this.renewedAt = sentAt;
      return [];
    }
    if (result.kind !== "stored") return this.backToStandby(at);
    this.leaseSeq = result.seq;
    this.renewedAt = sentAt;
    return [{ kind: "writeEpoch", leaseSeq: result.seq }];
  }

  private epochWritten(result: KeyWriteResult, at: number): LeadershipEffect[] {
    if (result.kind !== "stored") return this.backToStandby(at);
    this.state = "leading";
    return [{ kind: "lead", epoch: result.seq }];
  }

  private backToStandby(at: number): LeadershipEffect[] {
    this.state = "standby";
    this.movedAt = at;
    return [];
  }
}
