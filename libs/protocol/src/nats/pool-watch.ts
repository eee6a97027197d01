/**
 * Watching one pool's leader (see view.ts): the watch is renewed, a snapshot is read, changes are applied to it, and
 * after a gap, another leader or a silence it is read again. What has been seen stays visible meanwhile.
 */
import type { Subscription } from "@nats-io/transport-node";
import { PoolPicture } from "../pool-picture.ts";
import { subjects } from "../subjects.ts";
import {
  type ViewAsk,
  type ViewChanges,
  type ViewPage,
  viewChangesSchema,
  viewPageSchema,
  WATCH_RENEW_MS,
} from "../view.ts";
import { ask, type Bus, listen, onConnectionLost } from "./bus.ts";

/** A page has to come within this time; the leader answers at once or, being busy, not at all. */
const PAGE_TIMEOUT_MS = 1_000;
/** Pause before a pool is read again that did not answer. */
const AGAIN_MS = 500;
/** Without a message for so long the leader is gone, or is another one: changes come once a second at least. */
const SILENCE_MS = 3_000;
/** Changes that are kept while a snapshot is read: two minutes of them; above it the snapshot begins again. */
const PENDING_MAX = 1_200;

export interface PoolWatchOptions {
  /** A new picture takes the place of the old one: after the first snapshot, and after each one that was read again. */
  onSnapshot?: (picture: PoolPicture) => void;
  /** Changes that were applied to the picture. */
  onChanges?: (changes: ViewChanges, picture: PoolPicture) => void;
  /** The leader answers, or does not any more. */
  onLeader?: (isThere: boolean) => void;
  /** What a person should know: messages that could not be read. */
  onProblem?: (text: string) => void;
  /** Items of each kind that a picture may hold. */
  itemsMax?: number;
}

export class PoolWatch {
  readonly pool: string;
  /** The last whole picture; undefined until the first snapshot is read. */
  picture: PoolPicture | undefined;
  /** Whether the leader answers. */
  hasLeader = false;
  readonly #bus: Bus;
  readonly #options: PoolWatchOptions;
  readonly #subscription: Subscription;
  readonly #stopListening: () => void;
  readonly #timer: NodeJS.Timeout;
  /** Changes that came while a snapshot is read; undefined when none is. */
  #pending: ViewChanges[] | undefined;
  /** The snapshot that is read is of no use any more. */
  #isStale = false;
  #heardAt = performance.now();
  #renewedAt = 0;
  #stopped = false;

  constructor(bus: Bus, pool: string, options: PoolWatchOptions = {}) {
    this.#bus = bus;
    this.pool = pool;
    this.#options = options;
    this.#subscription = listen(
      bus,
      subjects.events(pool),
      viewChangesSchema,
      (changes) => this.#heard(changes),
      (error) => {
        options.onProblem?.(`changes of pool ${pool}: ${error.message}`);
        this.#read();
      },
    );
    this.#stopListening = onConnectionLost(bus, () => this.#read());
    this.#timer = setInterval(() => this.#tick(), AGAIN_MS);
    this.#read();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#subscription.unsubscribe();
    this.#stopListening();
  }

  #tick(): void {
    const now = performance.now();
    if (now - this.#heardAt >= SILENCE_MS) {
      this.#leader(false);
      this.#read();
    }
    // Renewed during a snapshot, too: a large pool takes longer to read than a watch lasts.
    if (now - this.#renewedAt >= WATCH_RENEW_MS) void this.#renew();
  }

  async #renew(): Promise<ViewPage | undefined> {
    this.#renewedAt = performance.now();
    return await askView(this.#bus, this.pool, { op: "watch" });
  }

  #leader(isThere: boolean): void {
    if (this.hasLeader === isThere) return;
    this.hasLeader = isThere;
    this.#options.onLeader?.(isThere);
  }

  #heard(changes: ViewChanges): void {
    if (this.#stopped) return;
    this.#heardAt = performance.now();
    if (this.#pending) {
      this.#pending.push(changes);
      if (this.#pending.length > PENDING_MAX) this.#isStale = true;
      return;
    }
    if (!this.picture) return;
    const { number } = this.picture;
    if (!this.picture.apply(changes)) this.#read();
    else if (this.picture.number !== number) this.#options.onChanges?.(changes, this.picture);
  }

  /** Reads a snapshot, unless one is being read: that one begins again then. */
  #read(): void {
    if (this.#stopped) return;
    if (this.#pending) {
      this.#isStale = true;
      return;
    }
    this.#pending = [];
    void this.#readUntilWhole();
  }

  async #readUntilWhole(): Promise<void> {
    for (;;) {
      this.#isStale = false;
      this.#pending = [];
      const picture = await this.#snapshot();
      if (this.#stopped) return;
      if (picture && !this.#isStale && this.#catchUp(picture)) return;
      if (!picture) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      if (this.#stopped) return;
    }
  }

  /** Applies what came meanwhile. @returns false when there was a gap. */
  #catchUp(picture: PoolPicture): boolean {
    for (const changes of this.#pending ?? []) if (!picture.apply(changes)) return false;
    this.#pending = undefined;
    this.picture = picture;
    this.#heardAt = performance.now();
    this.#leader(true);
    this.#options.onSnapshot?.(picture);
    return true;
  }

  async #snapshot(): Promise<PoolPicture | undefined> {
    const first = await this.#renew();
    if (!first) return undefined;
    // Pages may know more than the first answer: all changes since then are applied again, the last of each item last.
    const goesOn = () => !this.#stopped && !this.#isStale;
    return await readPages(this.#bus, this.pool, first, goesOn, this.#options.itemsMax);
  }
}

/** One question to a pool's leader. @returns undefined when nobody answers in time. */
export async function askView(bus: Bus, pool: string, question: ViewAsk): Promise<ViewPage | undefined> {
  return await ask(bus, subjects.view(pool), question, viewPageSchema, PAGE_TIMEOUT_MS);
}

/**
 * A pool as its leader shows it now, read once.
 * @returns undefined when there is no leader, or another one took over meanwhile.
 */
export async function readPicture(bus: Bus, pool: string): Promise<PoolPicture | undefined> {
  const first = await askView(bus, pool, { op: "page", what: "engines", max: 1 });
  return first && (await readPages(bus, pool, first, () => true));
}

async function readPages(
  bus: Bus,
  pool: string,
  first: ViewPage,
  goesOn: () => boolean,
  itemsMax?: number,
): Promise<PoolPicture | undefined> {
  const picture = new PoolPicture(itemsMax);
  picture.addPage(first);
  picture.number = first.number;
  for (const what of ["engines", "programs", "calls"] as const) {
    let from: string | undefined;
    do {
      const page = await askView(bus, pool, { op: "page", what, ...(from === undefined ? {} : { from }) });
      if (!page || page.pool.epoch !== first.pool.epoch || !goesOn()) return undefined;
      picture.addPage(page);
      from = page.next;
    } while (from !== undefined);
  }
  return picture;
}
