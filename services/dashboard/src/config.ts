/** Configuration of the dashboard's process: parsed once, in `main.ts`. */
import { commonConfig, envInt, envList, envText } from "@autellix/runtime";
import { z } from "zod";

export const dashboardConfig = z.object({
  ...commonConfig,
  /** Address to listen on. It shows names of programs and tenants to whoever reaches it, so only this machine by default. */
  AUTELLIX_HOST: envText().default("127.0.0.1"),
  AUTELLIX_PORT: envInt({ min: 0, max: 65_535 }).default(8090),
  /** Host names under which browsers reach it beside `localhost` and IP addresses: that of a proxy. `*`: any. */
  AUTELLIX_DASHBOARD_HOSTS: envList().default([]),
  /** Folders whose input logs the replay offers, comma-separated. */
  AUTELLIX_RECORDINGS_DIRS: envList().default([]),
});
