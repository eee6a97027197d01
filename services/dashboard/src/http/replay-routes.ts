/** What the replay page asks for. */
import type { Readable } from "node:stream";
import { validate } from "@autellix/protocol";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { StudioError } from "../replay/studio.ts";
import type { FilmAsk, Recording, ReplayOptions } from "../shared/film.ts";
import { sendError } from "./server.ts";

export interface ReplayDesk {
  options(): Promise<ReplayOptions>;
  /** @returns JSON of a film. @throws StudioError */
  film(ask: FilmAsk, signal: AbortSignal): Promise<Uint8Array>;
  /** @throws StudioError */
  upload(name: string, body: Readable): Promise<Recording>;
}

/** Limits of a simulation on a page: what can be watched, and made in seconds. */
export const FILM_PROGRAMS_MAX = 2_000;
export const FILM_ENGINES_MAX = 16;
const RATE_MAX = 1_000;
const word = z.string().min(1).max(64);
const name = z.string().min(1).max(256);

const filmAskSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("workload"),
    workload: word,
    policy: word,
    programs: z.int().positive().max(FILM_PROGRAMS_MAX),
    ratePerS: z.number().positive().max(RATE_MAX),
    seed: z
      .int()
      .nonnegative()
      .max(2 ** 31),
    engines: z.int().positive().max(FILM_ENGINES_MAX),
    preset: word,
  }),
  z.object({ kind: z.literal("recording"), recording: name }),
  z.object({ kind: z.literal("resimulated"), recording: name, policy: word, preset: word }),
]);

const LOG_TYPE = "application/x-ndjson";

export function addReplayRoutes(app: FastifyInstance, desk: ReplayDesk): void {
  // A type that no form of another site can send: it would need this server's leave, which it never gives.
  app.removeContentTypeParser("text/plain");
  app.addContentTypeParser(LOG_TYPE, (_request, body, done) => done(null, body));
  app.get("/api/replay/options", async () => desk.options());
  app.post("/api/replay/films", async (request, reply) => {
    const ask = validate(filmAskSchema, request.body);
    const stop = new AbortController();
    reply.raw.once("close", () => stop.abort());
    try {
      const json = await desk.film(ask, stop.signal);
      reply.type("application/json; charset=utf-8").header("cache-control", "no-store");
      return reply.send(Buffer.from(json.buffer, json.byteOffset, json.byteLength));
    } catch (error) {
      if (!(error instanceof StudioError)) throw error;
      return sendError(reply, error.status, error.code, error.message);
    }
  });
  app.post<{ Querystring: { name?: string } }>(
    "/api/replay/recordings",
    { bodyLimit: Number.MAX_SAFE_INTEGER },
    async (request, reply) => {
      try {
        return await desk.upload(String(request.query.name ?? "upload"), request.body as Readable);
      } catch (error) {
        if (!(error instanceof StudioError)) throw error;
        return sendError(reply, error.status, error.code, error.message);
      }
    },
  );
}
