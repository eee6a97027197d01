/**
 * What a person with access to NATS can see of a running system: the queue, the records, the engines' own counters.
 */
import {
  ask,
  BODIES_STORE,
  type Bus,
  CALLS_STREAM,
  openBus,
  type Report,
  readOutcome,
  reportSchema,
  subjects,
} from "@autellix/protocol";
import { Objm } from "@nats-io/obj";

export interface Observer {
  readonly bus: Bus;
  /** Calls that are accepted and not acked yet, over all pools. */
  queuedCalls(): Promise<number>;
  /** Bodies and results in the object store. */
  storedObjects(): Promise<number>;
  /** An engine's full report, made now. @throws when its agent does not answer. */
  report(engine: string): Promise<Report>;
  /** `completed`, `failed:<code>`, …; undefined while the call has no terminal record. */
  recordedEnd(pool: string, tenant: string, callId: string): Promise<string | undefined>;
  close(): Promise<void>;
}

export async function openObserver(natsUrl: string): Promise<Observer> {
  const bus = await openBus({ url: natsUrl, name: "test-observer" });
  return {
    bus,
    queuedCalls: async () => (await bus.jsm.streams.info(CALLS_STREAM)).state.messages,
    async storedObjects() {
      const store = await new Objm(bus.js).open(BODIES_STORE);
      return (await store.list()).filter(({ deleted }) => !deleted).length;
    },
    async report(engine) {
      // Epoch 0 is below every leader's: the question changes nothing.
      const report = await ask(bus, subjects.ask(engine), { kind: "report", epoch: 0 }, reportSchema);
      if (!report) throw new Error(`the agent of engine ${engine} does not answer`);
      return report;
    },
    async recordedEnd(pool, tenant, callId) {
      const read = await readOutcome(bus, { pool, tenant, callId }, "leader");
      if (read.kind !== "found" || read.record.head.kind !== "outcome") return undefined;
      const { status, code } = read.record.head;
      return code === undefined ? status : `${status}:${code}`;
    },
    close: () => bus.nc.close(),
  };
}
