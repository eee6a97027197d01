/**
 * `npm run docker:offline`: what the tests in containers use, for a person: an engine (its own when none runs), the base
 * images made locally, and our services' images. Prints what a second terminal needs, and stays until Ctrl-C.
 */

import { obtainDocker } from "../equipment/docker.ts";
import { obtainImages } from "../equipment/images.ts";
import { jaegerBinary } from "../equipment/jaeger-binary.ts";
import { buildServices } from "./services.ts";

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort(new Error("stopped")));
const options = { env: process.env, signal: stop.signal, say: (text: string) => console.log(text) };

const docker = await obtainDocker(options);
try {
  const images = await obtainImages({ ...options, docker, jaeger: jaegerBinary });
  const version = await buildServices({ ...options, docker, images });
  const variables = { ...docker.env, ...images, AUTELLIX_VERSION: version };
  for (const [name, value] of Object.entries(variables)) console.log(`export ${name}=${value}`);
  console.log(`${docker.compose.join(" ")} up --detach --wait --no-build`);
  await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
} finally {
  await docker.close();
}
