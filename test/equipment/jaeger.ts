/** A real Jaeger: the one that is installed, or built from the sources that its makers publish. */
import { constants } from "node:fs";
import { access, mkdir, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { cacheDir, runChild, spawnTied } from "@autellix/runtime";
import { z } from "zod";
import { obtainFolder } from "../engines/equipment/folder.ts";
import type { Component } from "../engines/equipment/index.ts";
import type { Env } from "../engines/equipment/python.ts";
import { freePort } from "../support/nats.ts";

/** The last that can be built without replacing what it depends on. */
const VERSION = "1.65.0";
const MODULE = "github.com/jaegertracing/jaeger/cmd/all-in-one";
const VERSION_VARIABLE = "github.com/jaegertracing/jaeger/pkg/version.latestVersion";
/** 90 s on two idle cores. */
const BUILD_MS_MAX = 15 * 60_000;
const START_MS_MAX = 30_000;
const NAME = "jaeger-all-in-one";

/** `$JAEGER_BIN` · PATH · cache · Go's module proxy. @returns what is missing, in one line. */
export async function obtainJaeger(env: Env): Promise<Component<{ bin: string }>> {
  const signal = AbortSignal.timeout(BUILD_MS_MAX);
  try {
    const installed = await installedIn(env);
    if (installed !== undefined) {
      await check(installed, env, signal);
      return { bin: installed };
    }
    const folder = await obtainFolder({
      cache: join(cacheDir(env), "equipment"),
      name: `jaeger-${VERSION}`,
      signal,
      say,
      check: async (place, stop) => await check(join(place, NAME), env, stop),
      make: async (place, stop) => await build(place, env, stop),
    });
    return { bin: join(folder, NAME) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { missing: `Jaeger is missing: ${reason}; put ${NAME} 1.x on your PATH, set JAEGER_BIN, or install Go` };
  }
}

function say(text: string): void {
  process.stdout.write(`jaeger: ${text}\n`);
}

async function installedIn(env: Env): Promise<string | undefined> {
  if (env.JAEGER_BIN) return env.JAEGER_BIN;
  for (const folder of (env.PATH ?? "").split(delimiter)) {
    const bin = join(folder, NAME);
    if (folder !== "" && (await access(bin, constants.X_OK).then(...succeeded))) return bin;
  }
  return undefined;
}

const succeeded = [() => true, () => false] as const;

/** @throws Error when it is no Jaeger that takes OTLP. */
async function check(bin: string, env: Env, signal: AbortSignal): Promise<void> {
  const { stdout, stderr } = await runChild(bin, ["help"], { env: { ...env, SPAN_STORAGE_TYPE: "memory" }, signal });
  if (!`${stdout}${stderr}`.includes("--collector.otlp.http.host-port"))
    throw new Error(`${bin} is no ${NAME} from 1.35 on`);
}

async function build(place: string, env: Env, signal: AbortSignal): Promise<void> {
  say(`building ${VERSION}, which takes a minute or more …`);
  const module = join(place, "module");
  await mkdir(module, { recursive: true });
  // No Go workspace and no flags of the person's own.
  const go = { ...env, GOFLAGS: "", GOWORK: "off", CGO_ENABLED: "0" };
  const run = (args: string[]) => runChild("go", args, { env: go, cwd: module, signal });
  await run(["version"]).catch(() => {
    signal.throwIfAborted();
    throw new Error("building it needs Go");
  });
  await writeFile(join(module, "go.mod"), "module scratch\n");
  await run(["get", `${MODULE}@v${VERSION}`]);
  await run(["build", "-ldflags", `-X ${VERSION_VARIABLE}=v${VERSION}`, "-o", join(place, NAME), MODULE]);
}

const tagSchema = z.object({ key: z.string(), value: z.unknown() });
const spanSchema = z.object({
  traceID: z.string(),
  spanID: z.string(),
  operationName: z.string(),
  references: z.array(z.object({ refType: z.string(), traceID: z.string(), spanID: z.string() })),
  /** µs since 1970 */
  startTime: z.number(),
  /** µs */
  duration: z.number(),
  tags: z.array(tagSchema),
  logs: z.array(z.object({ timestamp: z.number(), fields: z.array(tagSchema) })),
  processID: z.string(),
  warnings: z.array(z.string()).nullish(),
});
const traceSchema = z.object({
  traceID: z.string(),
  spans: z.array(spanSchema),
  processes: z.record(z.string(), z.object({ serviceName: z.string() })),
});
const answerSchema = z.object({ data: z.array(traceSchema).nullable() });

export type JaegerSpan = z.infer<typeof spanSchema>;
export type JaegerTrace = z.infer<typeof traceSchema>;

export interface RunningJaeger {
  /** OTLP over HTTP. */
  otlpUrl: string;
  /** Its query API and its page. */
  url: string;
  /** Traces with a span that has all these tags. */
  find(service: string, tags: Record<string, string>): Promise<JaegerTrace[]>;
  stop(): Promise<void>;
}

export async function startJaeger(bin: string, env: Env): Promise<RunningJaeger> {
  const [otlp, query, admin, ...others] = await Promise.all(Array.from({ length: 7 }, freePort));
  const local = (port: number | undefined) => `127.0.0.1:${port}`;
  const child = spawnTied(
    bin,
    [
      `--collector.otlp.http.host-port=${local(otlp)}`,
      `--query.http-server.host-port=${local(query)}`,
      `--admin.http.host-port=${local(admin)}`,
      `--collector.otlp.grpc.host-port=${local(others[0])}`,
      `--collector.grpc-server.host-port=${local(others[1])}`,
      `--collector.http-server.host-port=${local(others[2])}`,
      `--query.grpc-server.host-port=${local(others[3])}`,
      "--log-level=error",
    ],
    // It would send spans of its own to where OpenTelemetry's variables say.
    { env: { ...env, SPAN_STORAGE_TYPE: "memory", OTEL_TRACES_SAMPLER: "always_off" } },
  );
  const url = `http://${local(query)}`;
  const until = performance.now() + START_MS_MAX;
  while (!(await fetch(`${url}/api/services`).catch(() => undefined))?.ok) {
    if (performance.now() > until) {
      await child.end();
      throw new Error(`Jaeger is not ready after ${START_MS_MAX} ms`);
    }
    await pause(100);
  }
  return {
    otlpUrl: `http://${local(otlp)}`,
    url,
    async find(service, tags) {
      const parameters = new URLSearchParams({ service, tags: JSON.stringify(tags), limit: "100", lookback: "1h" });
      const answer = await fetch(`${url}/api/traces?${parameters}`);
      return answerSchema.parse(await answer.json()).data ?? [];
    },
    stop: () => child.end().then(() => undefined),
  };
}
