/**
 * Health of a container's service: exit code 0 when it can do its work, else 1 and the reason in one line. An image
 * for many services has one check, so it finds out by itself where to ask.
 */
const ANSWER_MS_MAX = 4_000;
const { env } = process;

const port = env.AUTELLIX_METRICS_PORT;
const url =
  env.AUTELLIX_HEALTH_URL ||
  (env.AUTELLIX_SERVICE === "frontend" && `http://127.0.0.1:${env.AUTELLIX_PORT || 8080}/readyz`) ||
  (port && `http://127.0.0.1:${port}/readyz`);

if (!url) {
  console.log("nothing to ask: AUTELLIX_METRICS_PORT is not set");
  process.exit(1);
}
try {
  const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!answer.ok) {
    console.log(`${url} says ${answer.status}: ${(await answer.text()).slice(0, 300)}`);
    process.exitCode = 1;
  }
} catch (error) {
  console.log(`${url} does not answer: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
