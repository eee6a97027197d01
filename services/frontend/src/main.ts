import { runService } from "@autellix/runtime";
import { configSchema } from "./config.ts";
import { startFrontend } from "./frontend.ts";

await runService({ name: "frontend", env: process.env, config: configSchema, start: startFrontend });
