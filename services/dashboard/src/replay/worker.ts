/** A thread that makes one film, so that the live pages are not held up. */
import { parentPort, workerData } from "node:worker_threads";
import { InputLogError } from "@autellix/protocol/input-log";
import type { FilmAsk } from "../shared/film.ts";
import { makeFilm } from "./make-film.ts";

export interface WorkerAsk {
  ask: FilmAsk;
  /** Of the recording that is named. */
  file: string | undefined;
}

/** `film`: JSON of a `Film`. `refused`: the ask cannot be carried out, in one line for the person. */
export type WorkerAnswer = { kind: "film"; json: Uint8Array } | { kind: "refused"; code: string; message: string };

const { ask, file } = workerData as WorkerAsk;

function answer(said: WorkerAnswer): void {
  parentPort?.postMessage(said, said.kind === "film" ? [said.json.buffer as ArrayBuffer] : []);
}

try {
  // A buffer of its own, not a slice of a shared pool: it is handed over.
  answer({ kind: "film", json: new TextEncoder().encode(JSON.stringify(await makeFilm(ask, file))) });
} catch (error) {
  if (error instanceof InputLogError) answer({ kind: "refused", code: error.code, message: error.message });
  else if (error instanceof RangeError) answer({ kind: "refused", code: "invalid_request", message: error.message });
  else throw error;
}
