import { defineConfig } from "vitest/config";

/** Most take milliseconds; those with a process or a simulation take seconds, and many times that beside other work. */
const UNIT_TIMEOUT_MS = 60_000;

/** Seconds that one test may take before it is a failure; real engines on 2 busy cores are slow. */
const INTEGRATION_TIMEOUT_MS = 120_000;

/** vLLM starts in 15 s on an idle machine, and a test may start it again. */
const ENGINES_TIMEOUT_MS = 300_000;

/** A tool that is fetched or built for the first time takes minutes. */
const SYSTEM_TIMEOUT_MS = 300_000;

/** Thirteen containers start, elect and answer on two cores. */
const CONTAINERS_TIMEOUT_MS = 240_000;

/** A million calls on one busy core. */
const THEORY_TIMEOUT_MS = 300_000;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "libs/*/test/**/*.test.ts",
            "services/*/test/**/*.test.ts",
            "load-tests/test/**/*.test.ts",
            "test/**/*.test.ts",
          ],
          exclude: [
            "**/*.integration.test.ts",
            "**/*.theory.test.ts",
            "**/*.cluster.test.ts",
            "**/*.engines.test.ts",
            "**/*.system.test.ts",
            "**/*.containers.test.ts",
            "**/node_modules/**",
          ],
          testTimeout: UNIT_TIMEOUT_MS,
          hookTimeout: UNIT_TIMEOUT_MS,
        },
      },
      {
        test: {
          // The simulator against queueing theory: a million calls each.
          name: "theory",
          include: ["libs/simulation/test/**/*.theory.test.ts"],
          exclude: ["**/node_modules/**"],
          testTimeout: THEORY_TIMEOUT_MS,
        },
      },
      {
        test: {
          name: "integration",
          include: ["**/*.integration.test.ts"],
          exclude: ["**/node_modules/**"],
          testTimeout: INTEGRATION_TIMEOUT_MS,
          hookTimeout: INTEGRATION_TIMEOUT_MS,
          // Two cores: files that start servers and models side by side only slow each other down.
          fileParallelism: false,
        },
      },
      {
        test: {
          // Against engines' servers that were not written here: `npm run test:engines`.
          name: "engines",
          include: ["test/engines/**/*.engines.test.ts"],
          exclude: ["**/node_modules/**"],
          globalSetup: ["test/engines/setup.ts"],
          testTimeout: ENGINES_TIMEOUT_MS,
          hookTimeout: ENGINES_TIMEOUT_MS,
          fileParallelism: false,
        },
      },
      {
        test: {
          // Beside tools that were not written here: Prometheus, …; each file fetches its own. `npm run test:system`.
          name: "system",
          include: ["test/system/**/*.system.test.ts"],
          exclude: ["**/node_modules/**"],
          testTimeout: SYSTEM_TIMEOUT_MS,
          hookTimeout: SYSTEM_TIMEOUT_MS,
          fileParallelism: false,
        },
      },
      {
        test: {
          // docker-compose.yml and a NATS cluster, in a real Docker engine: `npm run test:containers`.
          name: "containers",
          include: ["test/containers/**/*.containers.test.ts"],
          exclude: ["**/node_modules/**"],
          globalSetup: ["test/containers/setup.ts"],
          testTimeout: CONTAINERS_TIMEOUT_MS,
          hookTimeout: CONTAINERS_TIMEOUT_MS,
          fileParallelism: false,
        },
      },
    ],
  },
});
