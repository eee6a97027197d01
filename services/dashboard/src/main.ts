/** Starts the dashboard: it follows all pools and serves browsers. */
import { answerFacts, openBus } from "@autellix/protocol";
import { addBusMetrics, runService } from "@autellix/runtime";
import { bundleAssets } from "./assets.ts";
import { dashboardConfig } from "./config.ts";
import { createServer } from "./http/server.ts";
import { Pools } from "./pools.ts";
import { Studio } from "./replay/studio.ts";

await runService({
  name: "dashboard",
  env: process.env,
  config: dashboardConfig,
  async start(config, { log, metrics }) {
    const onStatus = (reason: string) => log.warn({ reason }, "NATS");
    const [bus, assets] = await Promise.all([
      openBus({ url: config.AUTELLIX_NATS_URL, name: "dashboard", onStatus }),
      bundleAssets(),
      Studio.sweep(),
    ]);
    const noFacts = (error: unknown) => log.warn({ err: error }, "a question for facts stays without answer");
    answerFacts(bus, () => ({ service: "dashboard" }), noFacts);
    const pools = new Pools(log);
    if (metrics) {
      addBusMetrics(metrics, bus);
      metrics.gauge("autellix_dashboard_browsers", "Pages that are open.", () => pools.browserCount);
    }
    const studio = new Studio(config.AUTELLIX_RECORDINGS_DIRS);
    const desk = {
      pools: () => pools.summaries(),
      stream: pools.stream.bind(pools),
      program: pools.program.bind(pools),
    };
    const server = createServer({ assets, desk, replay: studio, hosts: config.AUTELLIX_DASHBOARD_HOSTS, log });
    const { AUTELLIX_HOST: host, AUTELLIX_PORT: port } = config;
    await server.listen({ host, port });
    pools.discover(bus);
    log.info({ host, port }, "listening");
    return {
      async stop() {
        pools.stop();
        await Promise.all([server.close(), studio.stop()]);
        await bus.nc.close();
      },
    };
  },
});
