/**
 * What a process says of itself when it is asked (`subjects.facts`): what only it can know, and what an operator wants
 * checked. Every service answers for itself, so two that claim to be one are both heard.
 */
import { z } from "zod";
import { NAME_PATTERN } from "./ids.ts";

/** Rises when messages change so that processes of two versions cannot work together. */
export const PROTOCOL_VERSION = 1;

const count = z.int().nonnegative();
const bytes = z.number().nonnegative();
const name = z.string().regex(NAME_PATTERN);

export const factsSchema = z.object({
  service: z.string(),
  /** This run of the process. */
  instance: z.string(),
  host: z.string(),
  pid: count,
  version: z.string(),
  protocol: count,
  /** Its wall clock when it answers, Unix ms. */
  atMs: z.number(),
  pool: name.optional(),
  /** Of a scheduler. */
  epoch: count.optional(),
  replicas: z.int().positive().optional(),
  /** Of a worker agent. */
  engine: name.optional(),
  engineKind: z.string().optional(),
  /** Calls that its engine computes together. */
  slots: z
    .object({
      used: count,
      /** What it was told to use. */
      asked: count.optional(),
      /** What its server says now that it has. */
      server: count.optional(),
      /** Requests that its server kept waiting all the time that it was looked at. */
      queued: count.optional(),
    })
    .optional(),
  /** KV in host memory: what the tier may take, and the file system in memory that it lies on. */
  hostTier: z
    .object({ dir: z.string(), wantedBytes: bytes, isDefault: z.boolean(), fileSystemBytes: bytes, freeBytes: bytes })
    .optional(),
  /** Of a frontend. */
  bodyBytesMax: bytes.optional(),
  http: z.object({ host: z.string(), port: count }).optional(),
});

export type Facts = z.infer<typeof factsSchema>;
