import { describe, expect, it } from "vitest";
import { BROWSERS_MAX, Hub, type HubEffect, MISSED_MAX, POOLS_EVERY_MS, SEND_EVERY_MS } from "../src/hub.ts";
import { HAPPENINGS_MAX } from "../src/shared/happenings.ts";
import { PoolModel } from "../src/shared/pool-model.ts";
import { call, changes, emptyModel } from "./fixture.ts";

/** A hub with one pool, whose changes are applied to the model as the service does. */
function hubOf() {
  const hub = new Hub();
  const model = emptyModel();
  hub.react({ kind: "began", pool: "p", model });
  let at = 0;
  return {
    hub,
    model,
    open: (browser: number) => hub.react({ kind: "opened", browser, pool: "p", at }),
    change(id: string) {
      const made = changes(at, { calls: [call(id)] });
      model.apply(made);
      return hub.react({ kind: "changed", pool: "p", changes: made });
    },
    due() {
      at += SEND_EVERY_MS;
      return hub.react({ kind: "due", at }).filter((effect) => effect.kind !== "send" || effect.event.kind !== "pools");
    },
  };
}

function kinds(effects: readonly HubEffect[]): string[] {
  return effects.map((effect) =>
    effect.kind === "send" ? `${effect.event.kind} to ${effect.to.join()}` : effect.kind,
  );
}

describe("the hub", () => {
  it("sends a shot to a browser that begins, then changes", () => {
    const { open, change, due } = hubOf();
    open(1);
    expect(kinds(due())).toEqual(["shot to 1"]);
    change("1");
    change("2");
    const effects = due();
    expect(kinds(effects)).toEqual(["changes to 1"]);
    const [effect] = effects;
    expect(effect?.kind === "send" && effect.event.kind === "changes" && effect.event.changes.calls.length).toBe(2);
    expect(due()).toEqual([]);
  });

  it("tells a browser that begins what has happened so far", () => {
    const { model, hub, open, due } = hubOf();
    const run = (id: string, atMs: number, state: "running" | "parked") =>
      model.apply(changes(atMs, { calls: [call(id, { state, engine: "e" })] }));
    // More than the shot has room for.
    for (let i = 0; i < 2 * HAPPENINGS_MAX; i++) run("1", i, i % 2 === 0 ? "running" : "parked");
    for (let i = 0; i < 2 * HAPPENINGS_MAX; i++) run("2", i, i % 2 === 0 ? "running" : "parked");
    open(1);
    const [shot] = due();
    if (shot?.kind !== "send" || shot.event.kind !== "shot") throw new Error("no shot was sent");
    expect(shot.event.shot.happenings.last).toHaveLength(HAPPENINGS_MAX);
    expect(shot.event.shot.happenings.counts).toEqual({ preempted: 2 * HAPPENINGS_MAX });
    // It goes on from there, and the service's own count does not.
    const own = new PoolModel(shot.event.shot);
    own.happenings.add({ atMs: 1, kind: "preempted" });
    expect(own.happenings.counts).toEqual({ preempted: 2 * HAPPENINGS_MAX + 1 });
    expect(hub.model("p")?.happenings.counts).toEqual({ preempted: 2 * HAPPENINGS_MAX });
  });

  it("sends the same changes once for all browsers", () => {
    const { open, change, due } = hubOf();
    open(1);
    open(2);
    due();
    change("1");
    expect(kinds(due())).toEqual(["changes to 1,2"]);
  });

  it("sends fewer than ten messages a second", () => {
    const { hub, open, change } = hubOf();
    open(1);
    let sent = 0;
    for (let at = 0; at < 10_000; at += SEND_EVERY_MS) {
      change(`${at}`);
      sent += hub.react({ kind: "due", at }).length;
    }
    expect(sent).toBeLessThanOrEqual(10 * (1_000 / SEND_EVERY_MS + 1_000 / POOLS_EVERY_MS) + 1);
    expect(1_000 / SEND_EVERY_MS + 1_000 / POOLS_EVERY_MS).toBeLessThan(10);
  });

  it("sends nothing to a browser that does not read, and what it missed when it reads again", () => {
    const { hub, open, change, due } = hubOf();
    open(1);
    open(2);
    due();
    hub.react({ kind: "blocked", browser: 1 });
    change("1");
    expect(kinds(due())).toEqual(["changes to 2"]);
    change("2");
    expect(kinds(due())).toEqual(["changes to 2"]);
    hub.react({ kind: "drained", browser: 1 });
    change("3");
    const effects = due();
    expect(kinds(effects)).toEqual(["changes to 2", "changes to 1"]);
    const [, missed] = effects;
    const calls = missed?.kind === "send" && missed.event.kind === "changes" ? missed.event.changes.calls : [];
    expect(calls.map((one) => one.call)).toEqual(["t/1", "t/2", "t/3"]);
    change("4");
    expect(kinds(due())).toEqual(["changes to 1,2"]);
  });

  it("gathers a bounded number for it: above that it begins again with a shot", () => {
    const { hub, open, change, due } = hubOf();
    open(1);
    due();
    hub.react({ kind: "blocked", browser: 1 });
    for (let i = 0; i <= MISSED_MAX; i++) {
      change(`${i}`);
      expect(due()).toEqual([]);
    }
    hub.react({ kind: "drained", browser: 1 });
    expect(kinds(due())).toEqual(["shot to 1"]);
    change("again");
    expect(kinds(due())).toEqual(["changes to 1"]);
  });

  it("goes on with changes when a browser missed none", () => {
    const { hub, open, change, due } = hubOf();
    open(1);
    due();
    hub.react({ kind: "blocked", browser: 1 });
    due();
    hub.react({ kind: "drained", browser: 1 });
    change("1");
    expect(kinds(due())).toEqual(["changes to 1"]);
  });

  it("refuses browsers above its limit", () => {
    const { hub, open } = hubOf();
    for (let i = 0; i < BROWSERS_MAX; i++) open(i);
    expect(kinds(open(BROWSERS_MAX))).toEqual(["refuse"]);
    hub.react({ kind: "closed", browser: 3 });
    expect(kinds(open(BROWSERS_MAX))).toEqual([`pools to ${BROWSERS_MAX}`]);
  });

  it("keeps no changes for nobody", () => {
    const { open, change, due } = hubOf();
    change("1");
    due();
    open(1);
    expect(kinds(due())).toEqual(["shot to 1"]);
  });

  it("tells browsers when the leader is away", () => {
    const { hub, open, due } = hubOf();
    open(1);
    due();
    expect(kinds(hub.react({ kind: "away", pool: "p", reason: "x" }))).toEqual(["away to 1"]);
  });

  it("tells a browser that begins while the leader is away, right behind its shot", () => {
    const { hub, open, change, due } = hubOf();
    hub.react({ kind: "away", pool: "p", reason: "x" });
    open(1);
    expect(kinds(due())).toEqual(["shot to 1", "away to 1"]);
    expect(due()).toEqual([]);
    change("1");
    open(2);
    expect(kinds(due())).toEqual(["changes to 1", "shot to 2"]);
    hub.react({ kind: "away", pool: "p", reason: "x" });
    hub.react({ kind: "began", pool: "p", model: emptyModel(9) });
    expect(kinds(due())).toEqual(["shot to 1,2"]);
  });

  it("tells a browser that did not read when it reads again, and only while the leader is away", () => {
    const { hub, open, change, due } = hubOf();
    open(1);
    due();
    hub.react({ kind: "blocked", browser: 1 });
    change("1");
    due();
    expect(hub.react({ kind: "away", pool: "p", reason: "x" })).toEqual([]);
    hub.react({ kind: "drained", browser: 1 });
    expect(kinds(due())).toEqual(["changes to 1", "away to 1"]);
    hub.react({ kind: "blocked", browser: 1 });
    change("2");
    hub.react({ kind: "drained", browser: 1 });
    expect(kinds(due())).toEqual(["changes to 1"]);
  });

  it("says it again behind changes that were gathered before the leader went", () => {
    const { hub, open, change, due } = hubOf();
    open(1);
    due();
    change("1");
    expect(kinds(hub.react({ kind: "away", pool: "p", reason: "x" }))).toEqual(["away to 1"]);
    expect(kinds(due())).toEqual(["changes to 1", "away to 1"]);
  });

  it("begins again with a shot when a pool was read again", () => {
    const { hub, open, due } = hubOf();
    open(1);
    due();
    hub.react({ kind: "began", pool: "p", model: emptyModel(9) });
    expect(kinds(due())).toEqual(["shot to 1"]);
  });
});
