/** What the page costs, for people who measure it (`autellixStats` in the console). */
export interface PageStats {
  /** Messages of the stream of events. */
  messages: number;
  shots: number;
  draws: number;
  sorts: number;
  /** Of the last sort of the process table. */
  sortMs: number;
  sortMsMax: number;
  /** Of the last sorts that the person asked for, by another order or filter. */
  askedSortsMs: number[];
}

export const ASKED_SORTS_MAX = 100;

export const stats: PageStats = {
  messages: 0,
  shots: 0,
  draws: 0,
  sorts: 0,
  sortMs: 0,
  sortMsMax: 0,
  askedSortsMs: [],
};

(globalThis as { autellixStats?: PageStats }).autellixStats = stats;
