/**
 * What browsers are told, and when. A synchronous machine: `react(event) → effects`, without clock and IO.
 *
 * Each browser watches one pool. Changes are gathered and sent to all of its browsers at once, every `SEND_EVERY_MS`.
 * A browser that does not read fast enough is sent nothing until it has read what it was sent: its buffer holds one
 * message at most, however slow it is. What it misses is gathered for it; when that is too much it begins again with a
 * shot.
 */

import { PendingChanges } from "./shared/merge.ts";
import type { PoolChanges, PoolModel } from "./shared/pool-model.ts";
import type { PoolEvent, PoolSummary } from "./shared/wire.ts";

/** Eight messages a second, and the list of pools: fewer than ten. */
export const SEND_EVERY_MS = 125;
/** The list of pools, and a sign of life. */
export const POOLS_EVERY_MS = 2_000;
/** Pages that may be open at once. */
export const BROWSERS_MAX = 32;
/** Items that are gathered for a browser that does not read; above it a shot is the better way. */
export const MISSED_MAX = 1_000;
/** Pools that are followed. */
export const POOLS_MAX = 64;

export type HubEvent =
  | { kind: "opened"; browser: number; pool: string; at: number }
  | { kind: "closed"; browser: number }
  /** Its buffer holds what it has not read; it has read it all. */
  | { kind: "blocked"; browser: number }
  | { kind: "drained"; browser: number }
  /** The model is a new one, or has heard a change. */
  | { kind: "began"; pool: string; model: PoolModel }
  | { kind: "changed"; pool: string; changes: PoolChanges }
  | { kind: "away"; pool: string; reason: string }
  | { kind: "due"; at: number };

export type HubEffect =
  /** The same bytes for all of them. */
  { kind: "send"; to: readonly number[]; event: PoolEvent } | { kind: "refuse"; browser: number };

interface Browser {
  pool: string;
  blocked: boolean;
  /** It needs a shot. */
  stale: boolean;
  /** What it was not sent. */
  missed: PendingChanges | undefined;
  /** The last that it was told of its pool is that the leader is away. */
  knowsAway: boolean;
  poolsAt: number;
}

interface Followed {
  model: PoolModel;
  pending: PendingChanges;
  /** Why no leader answers, until one is heard. */
  away: string | undefined;
}

export class Hub {
  private readonly browsers = new Map<number, Browser>();
  private readonly pools = new Map<string, Followed>();

  react(event: HubEvent): HubEffect[] {
    switch (event.kind) {
      case "opened":
        return this.opened(event);
      case "closed":
        this.browsers.delete(event.browser);
        return [];
      case "blocked":
        this.update(event.browser, (browser) => {
          browser.blocked = true;
        });
        return [];
      case "drained":
        this.update(event.browser, (browser) => {
          browser.blocked = false;
        });
        return [];
      case "began":
        return this.began(event.pool, event.model);
      case "changed":
        return this.changed(event.pool, event.changes);
      case "away":
        return this.away(event.pool, event.reason);
      case "due":
        return this.due(event.at);
    }
  }

  model(pool: string): PoolModel | undefined {
    return this.pools.get(pool)?.model;
  }

  get browserCount(): number {
    return this.browsers.size;
  }

  summaries(): PoolSummary[] {
    return [...this.pools].map(([pool, { model }]) => ({
      pool,
      policy: model.pool.policy,
      queuedCalls: model.pool.queuedCalls,
      runningCalls: model.pool.runningCalls,
      engines: model.engines.size,
      programs: model.programs.size,
    }));
  }

  private opened({ browser, pool, at }: Extract<HubEvent, { kind: "opened" }>): HubEffect[] {
    if (this.browsers.size >= BROWSERS_MAX) return [{ kind: "refuse", browser }];
    this.browsers.set(browser, { pool, blocked: false, stale: true, missed: undefined, knowsAway: false, poolsAt: at });
    return [{ kind: "send", to: [browser], event: { kind: "pools", pools: this.summaries() } }];
  }

  private began(pool: string, model: PoolModel): HubEffect[] {
    if (!this.pools.has(pool) && this.pools.size >= POOLS_MAX) return [];
    this.pools.set(pool, { model, pending: new PendingChanges(), away: undefined });
    for (const browser of this.browsers.values())
      if (browser.pool === pool) {
        browser.stale = true;
        browser.missed = undefined;
      }
    return [];
  }

  private changed(pool: string, changes: PoolChanges): HubEffect[] {
    const followed = this.pools.get(pool);
    followed?.pending.add(changes);
    if (followed) followed.away = undefined;
    return [];
  }

  private away(pool: string, reason: string): HubEffect[] {
    const followed = this.pools.get(pool);
    if (!followed) return [];
    followed.away = reason;
    return this.tellAway(pool, followed);
  }

  private due(at: number): HubEffect[] {
    const effects: HubEffect[] = [];
    for (const [name, followed] of this.pools) {
      const { model, pending } = followed;
      const all = this.watchers(name, () => true);
      if (all.length === 0) {
        if (!pending.isEmpty) pending.take();
        continue;
      }
      if (!pending.isEmpty) effects.push(...this.sendChanges(name, pending.take()));
      effects.push(...this.sendMissed(name));
      const behind = this.watchers(name, (browser) => !browser.blocked && browser.stale);
      if (behind.length > 0) {
        effects.push(this.tell(behind, { kind: "shot", shot: model.snapshot() }));
        for (const id of behind) this.stale(id, false);
      }
      effects.push(...this.tellAway(name, followed));
    }
    const late = [...this.browsers].filter(([, { blocked, poolsAt }]) => !blocked && at - poolsAt >= POOLS_EVERY_MS);
    if (late.length === 0) return effects;
    for (const [, browser] of late) browser.poolsAt = at;
    const event: PoolEvent = { kind: "pools", pools: this.summaries() };
    return [...effects, { kind: "send", to: late.map(([id]) => id), event }];
  }

  /** To those that have missed nothing; for those that do not read they are gathered. */
  private sendChanges(pool: string, changes: PoolChanges): HubEffect[] {
    const to = this.watchers(pool, ({ blocked, stale, missed }) => !blocked && !stale && !missed);
    for (const id of this.watchers(pool, ({ stale }) => !stale)) {
      if (!to.includes(id)) this.update(id, (browser) => miss(browser, changes));
    }
    return to.length > 0 ? [this.tell(to, { kind: "changes", changes })] : [];
  }

  private sendMissed(pool: string): HubEffect[] {
    return this.watchers(pool, ({ blocked, missed }) => !blocked && missed !== undefined).flatMap((id): HubEffect[] => {
      const changes = this.browsers.get(id)?.missed?.take();
      this.update(id, (browser) => {
        browser.missed = undefined;
      });
      return changes ? [this.tell([id], { kind: "changes", changes })] : [];
    });
  }

  /** A shot or changes: to a browser they mean that its pool is live. */
  private tell(to: readonly number[], event: PoolEvent): HubEffect {
    for (const id of to)
      this.update(id, (browser) => {
        browser.knowsAway = false;
      });
    return { kind: "send", to, event };
  }

  /** To those that show the pool as live; to others when they have read, or had their shot. */
  private tellAway(pool: string, { away: reason }: Followed): HubEffect[] {
    if (reason === undefined) return [];
    const to = this.watchers(pool, ({ blocked, stale, knowsAway }) => !blocked && !stale && !knowsAway);
    for (const id of to)
      this.update(id, (browser) => {
        browser.knowsAway = true;
      });
    return to.length > 0 ? [{ kind: "send", to, event: { kind: "away", pool, reason } }] : [];
  }

  private watchers(pool: string, which: (browser: Browser) => boolean): number[] {
    return [...this.browsers].filter(([, one]) => one.pool === pool && which(one)).map(([id]) => id);
  }

  private stale(id: number, isStale: boolean): void {
    this.update(id, (browser) => {
      browser.stale = isStale;
      browser.missed = undefined;
    });
  }

  private update(id: number, change: (browser: Browser) => void): void {
    const browser = this.browsers.get(id);
    if (browser) change(browser);
  }
}

function miss(browser: Browser, changes: PoolChanges): void {
  browser.missed ??= new PendingChanges();
  browser.missed.add(changes);
  if (browser.missed.size <= MISSED_MAX) return;
  browser.missed = undefined;
  browser.stale = true;
}
