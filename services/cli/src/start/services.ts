/** Which processes make up the system, and with what environment. */
import { dirname, extname, join } from "node:path";
import type { HttpOptions } from "./http-options.ts";
import type { PoolSpec } from "./models.ts";
import type { StartOptions } from "./options.ts";

/** Stopped in this order: nothing new comes in, then what runs is ended, then what decides. */
export const STOP_ORDER = ["dashboard", "frontend", "worker-agent", "scheduler"] as const;
export type ServiceKind = (typeof STOP_ORDER)[number];

export interface ServiceSpec {
  kind: ServiceKind;
  /** Unique, for people and for the log file: `frontend-0`. */
  name: string;
  /** The TypeScript file to run. */
  module: string;
  env: Record<string, string>;
}

export const HOST = "127.0.0.1";

export function frontendPorts({ port, frontends }: { port: number; frontends: number }): number[] {
  return Array.from({ length: frontends }, (_, i) => port + i);
}

/** Where demos leave what they recorded, for the dashboard's replay. */
export const RECORDINGS_FOLDER = "recordings";

/** @param servicesDir the folder that holds `frontend`, `scheduler`, `worker-agent` and `dashboard`. */
export function serviceSpecs(
  options: StartOptions,
  pools: readonly PoolSpec[],
  natsUrl: string,
  servicesDir: string,
): ServiceSpec[] {
  const service = (kind: ServiceKind, name: string, env: Record<string, string>): ServiceSpec => ({
    kind,
    name,
    module: join(servicesDir, kind, "src", "main.ts"),
    env: {
      AUTELLIX_NATS_URL: natsUrl,
      AUTELLIX_LOG_LEVEL: options.logLevel,
      // Log files hold JSON; the supervisor makes lines for people of it.
      AUTELLIX_PRETTY: "false",
      AUTELLIX_INSTANCE: name,
      ...(options.otlpUrl === undefined ? {} : { AUTELLIX_OTLP_URL: options.otlpUrl }),
      ...(options.traceSample === undefined ? {} : { AUTELLIX_TRACE_SAMPLE: options.traceSample }),
      ...env,
    },
  });
  const times = <T>(n: number, make: (i: number) => T) => Array.from({ length: n }, (_, i) => make(i));
  return [
    ...pools.flatMap(({ pool, modelNames, modelFile }) => [
      ...times(options.schedulers, (i) =>
        service("scheduler", `scheduler-${pool}-${i}`, {
          AUTELLIX_POOL: pool,
          AUTELLIX_POLICY: options.policy,
          AUTELLIX_BALANCER: options.balancer,
          ...(options.inputLogFile === undefined ? {} : { AUTELLIX_INPUT_LOG: options.inputLogFile }),
        }),
      ),
      ...times(options.engines, (i) =>
        service("worker-agent", `worker-agent-${pool}-${i}`, {
          AUTELLIX_POOL: pool,
          // The same at every start, so that an engine that comes back is known as itself.
          AUTELLIX_ENGINE_ID: `${pool}-${i}`,
          AUTELLIX_ENGINE: options.engine,
          ...(modelNames.length === 0 ? {} : { AUTELLIX_MODEL_NAMES: modelNames.join(",") }),
          ...(modelFile === undefined ? {} : { AUTELLIX_MODEL_FILE: modelFile }),
          ...(options.preset === undefined ? {} : { AUTELLIX_ENGINE_PRESET: options.preset }),
          ...(options.hostKvBytesMax === undefined
            ? {}
            : { AUTELLIX_HOST_KV_BYTES_MAX: String(options.hostKvBytesMax) }),
          ...(options.http ? httpEnv(options.http, i) : {}),
        }),
      ),
    ]),
    ...frontendPorts(options).map((port, i) =>
      service("frontend", `frontend-${i}`, {
        AUTELLIX_HOST: HOST,
        AUTELLIX_PORT: String(port),
        ...(options.traceFile === undefined
          ? {}
          : { AUTELLIX_TRACE_FILE: instancePath(options.traceFile, `frontend-${i}`) }),
        ...(options.apiKeysFile === undefined ? {} : { AUTELLIX_API_KEYS_FILE: options.apiKeysFile }),
      }),
    ),
    ...(options.dashboardPort === undefined
      ? []
      : [
          service("dashboard", "dashboard", {
            AUTELLIX_HOST: HOST,
            AUTELLIX_PORT: String(options.dashboardPort),
            AUTELLIX_RECORDINGS_DIRS: recordingFolders(options).join(","),
          }),
        ]),
  ];
}

function recordingFolders({ dataDir, inputLogFile }: StartOptions): string[] {
  return [join(dataDir, RECORDINGS_FOLDER), ...(inputLogFile === undefined ? [] : [dirname(inputLogFile)])];
}

function httpEnv({ urls, dialect, slots, apiKeyEnv, caFile }: HttpOptions, agent: number): Record<string, string> {
  return {
    AUTELLIX_ENGINE_URL: urls[agent] ?? "",
    AUTELLIX_DIALECT: dialect,
    ...(slots === undefined ? {} : { AUTELLIX_SLOTS: String(slots) }),
    ...(apiKeyEnv === undefined ? {} : { AUTELLIX_API_KEY_ENV: apiKeyEnv }),
    ...(caFile === undefined ? {} : { AUTELLIX_CA: caFile }),
  };
}

/** `trace.jsonl` → `trace.frontend-0.jsonl`: each process writes a file of its own. */
function instancePath(file: string, instance: string): string {
  const extension = extname(file);
  return `${file.slice(0, file.length - extension.length)}.${instance}${extension}`;
}
