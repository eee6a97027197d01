/** Follows every pool that has a leader, and carries out what the hub decides. */
import type { ServerResponse } from "node:http";
import { type Bus, listen, PoolWatch, statusSchema, subjects } from "@autellix/protocol";
import type { Logger } from "@autellix/runtime";
import { BrowserStream, encodeEvent } from "./http/stream.ts";
import { Hub, type HubEvent, POOLS_MAX, SEND_EVERY_MS } from "./hub.ts";
import { CALLS_MAX, emptyShot, type PoolChanges, PoolModel } from "./shared/pool-model.ts";
import { type Picture, reconcile } from "./shared/reconcile.ts";
import { Stories } from "./shared/stories.ts";
import type { PoolSummary, ProgramAnswer } from "./shared/wire.ts";

const NO_LEADER = "no scheduler answers";

interface Followed {
  watch: { stop(): void };
  model: PoolModel | undefined;
  stories: Stories;
  /** Told last. */
  problem?: string;
}

export class Pools {
  private readonly hub = new Hub();
  private readonly log: Logger;
  private readonly followed = new Map<string, Followed>();
  private readonly browsers = new Map<number, BrowserStream>();
  private readonly timer: NodeJS.Timeout;
  private browserNumber = 0;
  private unlisten = () => {};
  private isFull = false;

  constructor(log: Logger) {
    this.log = log;
    this.timer = setInterval(() => this.react({ kind: "due", at: Date.now() }), SEND_EVERY_MS);
  }

  /** Pools are known by their leaders' status. */
  discover(bus: Bus): void {
    const subscription = listen(
      bus,
      subjects.statusOfAll,
      statusSchema,
      ({ pool }) => this.follow(bus, pool),
      (error) => this.log.warn({ code: error.code }, "a status cannot be read"),
    );
    this.unlisten = () => subscription.unsubscribe();
  }

  /** For what is no leader on NATS: `push` hears what a leader would have said. */
  feed(pool: string): { snapshot(picture: Picture): void; changes(changes: PoolChanges): void } {
    const followed: Followed = { watch: { stop() {} }, model: undefined, stories: new Stories() };
    this.followed.set(pool, followed);
    return {
      snapshot: (picture) => this.snapshot(pool, followed, picture),
      changes: (changes) => this.changes(pool, followed, changes),
    };
  }

  get browserCount(): number {
    return this.hub.browserCount;
  }

  summaries(): PoolSummary[] {
    return this.hub.summaries();
  }

  stream(pool: string, response: ServerResponse): void {
    const browser = ++this.browserNumber;
    const stream = new BrowserStream(response, (kind) => {
      if (kind === "closed") this.browsers.delete(browser);
      this.react({ kind, browser });
    });
    this.browsers.set(browser, stream);
    this.react({ kind: "opened", browser, pool, at: Date.now() });
  }

  program(pool: string, tenant: string, program: string): ProgramAnswer | undefined {
    const followed = this.followed.get(pool);
    if (!followed?.model) return undefined;
    const { model, stories } = followed;
    const key = `${tenant}/${program}`;
    return {
      program: model.programs.get(key),
      calls: stories.of(key),
      measures: model.pool.measures,
      callsSeen: stories.countOf(key),
      look: model.colours.of(key),
      atMs: model.atMs,
      seenSinceMs: model.seenSinceMs,
    };
  }

  stop(): void {
    clearInterval(this.timer);
    this.unlisten();
    for (const { watch } of this.followed.values()) watch.stop();
    for (const browser of this.browsers.values()) browser.end();
  }

  private follow(bus: Bus, pool: string): void {
    if (this.followed.has(pool)) return;
    if (this.followed.size >= POOLS_MAX) {
      if (!this.isFull) this.log.warn({ pool }, "more pools than are shown");
      this.isFull = true;
      return;
    }
    const followed: Followed = { watch: { stop() {} }, model: undefined, stories: new Stories() };
    this.followed.set(pool, followed);
    followed.watch = new PoolWatch(bus, pool, {
      onSnapshot: (picture) => this.snapshot(pool, followed, picture),
      onChanges: (changes) => this.changes(pool, followed, changes),
      onLeader: (isThere) => {
        if (isThere) this.log.info({ pool }, "the pool's leader answers");
        else this.log.warn({ pool }, "the pool's leader does not answer");
        if (!isThere) this.react({ kind: "away", pool, reason: NO_LEADER });
      },
      onProblem: (problem) => {
        // It comes with each message: ten a second.
        if (followed.problem !== problem) this.log.warn({ pool, reason: problem }, "the pool's changes cannot be read");
        followed.problem = problem;
      },
      itemsMax: CALLS_MAX,
    });
  }

  private snapshot(
    pool: string,
    followed: Followed,
    picture: Omit<Picture, "pool"> & { pool: Picture["pool"] | undefined },
  ): void {
    const { pool: known, atMs, programs, calls, engines } = picture;
    if (!known) return;
    followed.model ??= new PoolModel(emptyShot(known, atMs), followed.stories);
    followed.model.apply(reconcile(followed.model, { pool: known, atMs, programs, calls, engines }));
    this.react({ kind: "began", pool, model: followed.model });
  }

  private changes(pool: string, followed: Followed, changes: PoolChanges): void {
    if (!followed.model) return;
    followed.model.apply(changes);
    this.react({ kind: "changed", pool, changes });
  }

  private react(event: HubEvent): void {
    for (const effect of this.hub.react(event)) {
      if (effect.kind === "refuse") {
        this.browsers.get(effect.browser)?.refuse();
        continue;
      }
      const bytes = encodeEvent(effect.event);
      for (const id of effect.to) this.browsers.get(id)?.send(bytes);
    }
  }
}
