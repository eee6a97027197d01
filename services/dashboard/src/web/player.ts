/** Plays a film on a model: to any time, forwards by applying, backwards by beginning again. */
import type { ColoursShot } from "../shared/colours.ts";
import type { Film } from "../shared/film.ts";
import { emptyShot, PoolModel } from "../shared/pool-model.ts";

export class FilmPlayer {
  readonly film: Film;
  model: PoolModel;
  private readonly colours: ColoursShot;
  private next = 0;
  private atMs = 0;

  /** @param colours of all programs, so that two films of the same programs show them alike. */
  constructor(film: Film, colours: ColoursShot) {
    this.film = film;
    this.colours = colours;
    this.model = this.begin();
  }

  /** @param ms since the film's beginning. */
  seek(ms: number): void {
    const at = this.film.fromMs + ms;
    if (at < this.atMs) {
      this.model = this.begin();
      this.next = 0;
    }
    const { frames } = this.film;
    for (let frame = frames[this.next]; frame && frame.atMs <= at; frame = frames[this.next]) {
      this.model.apply(frame);
      this.next++;
    }
    this.atMs = at;
    this.model.atMs = Math.min(at, this.film.toMs);
  }

  get lengthMs(): number {
    return this.film.toMs - this.film.fromMs;
  }

  private begin(): PoolModel {
    return new PoolModel({
      ...emptyShot(this.film.pool, this.film.fromMs),
      pool: firstPool(this.film),
      colours: this.colours,
    });
  }
}

function firstPool({ frames, pool }: Film) {
  return frames[0]?.pool ?? pool;
}

/** One look for each program of the films, in the order of their arrival. */
export function coloursOf(films: readonly Film[], looks: number): ColoursShot {
  const seen = new Map<string, number>();
  for (const { results, frames } of films) {
    const tenants = new Map<string, string>();
    for (const frame of frames)
      for (const { tenant, program } of frame.programs) if (!tenants.has(program)) tenants.set(program, tenant);
    for (const { program } of results) {
      const key = `${tenants.get(program) ?? "sim"}/${program}`;
      if (!seen.has(key)) seen.set(key, seen.size % looks);
    }
  }
  return [...seen];
}
