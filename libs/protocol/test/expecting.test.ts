import { JetStreamApiError } from "@nats-io/jetstream";
import { describe, expect, it } from "vitest";
import type { Bus } from "../src/index.ts";
import { publishExpecting } from "../src/nats/expecting.ts";

const busy = () => new JetStreamApiError({ code: 400, err_code: 10_164, description: "wrong last sequence" });
const refused = () => new JetStreamApiError({ code: 400, err_code: 10_071, description: "wrong last sequence: 7" });

/** A server of several, which takes one write that expects `epoch` at a time, each for some turns of the loop. */
function cluster(refuses: (subject: string) => boolean = () => false) {
  const log = { attempts: 0, stored: [] as string[] };
  let inProcess = false;
  const publish = async (subject: string) => {
    log.attempts++;
    if (inProcess) throw busy();
    if (refuses(subject)) throw refused();
    inProcess = true;
    await new Promise((resolve) => setTimeout(resolve, 3));
    inProcess = false;
    log.stored.push(subject);
    return { seq: log.stored.length };
  };
  return { log, bus: { js: { publish } } as unknown as Bus };
}

const fenced = { expect: { lastSubjectSequence: 4, lastSubjectSequenceSubject: "epoch" } };
const write = (bus: Bus, subject: string) => publishExpecting(bus, subject, new Uint8Array(), fenced);

describe("publishes that expect one subject, in a cluster", () => {
  it("all go through, in the order in which they waited, and do not fight for their turns", async () => {
    const { bus, log } = cluster();
    const subjects = Array.from({ length: 20 }, (_, index) => `s${index}`);
    await Promise.all(subjects.map((subject) => write(bus, subject)));
    expect(log.stored).toEqual(subjects);
    // Once each, and for those behind the first once to learn that it is busy; hardly more.
    expect(log.attempts).toBeLessThan(3 * subjects.length);
  });

  it("that are refused hold up nobody", async () => {
    const { bus, log } = cluster((subject) => subject === "s1");
    const results = await Promise.allSettled(["s0", "s1", "s2"].map((subject) => write(bus, subject)));
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(results[1]).toMatchObject({ reason: { code: 10_071 } });
    expect(log.stored).toEqual(["s0", "s2"]);
  });

  it("of its own subject is tried again while another one is on the way there", async () => {
    const { bus, log } = cluster();
    const own = { expect: { lastSubjectSequence: 0 } };
    await Promise.all(["a", "a"].map((subject) => publishExpecting(bus, subject, new Uint8Array(), own)));
    expect(log.stored).toEqual(["a", "a"]);
  });
});
