/**
 * The first process of a container. A container has a host name of its own, so its service need not be told by hand
 * what tells it apart from others of its kind. The name stays the same when the container is started again.
 */
import { hostname } from "node:os";

const NAME_CHARS_MAX = 64;
const { env } = process;
const service = env.AUTELLIX_SERVICE;
const host = hostname().replace(/[^A-Za-z0-9_-]/g, "-");

env.AUTELLIX_INSTANCE ||= `${service}-${host}`;
// Engine ids are unique in the whole system: replicas of one compose service have one environment.
if (service === "worker-agent" && env.AUTELLIX_POOL) {
  const pool = env.AUTELLIX_POOL.slice(0, NAME_CHARS_MAX - host.length - 1);
  env.AUTELLIX_ENGINE_ID ||= `${pool}-${host}`;
}

await import(new URL(`../../services/${service}/src/main.ts`, import.meta.url).href);
