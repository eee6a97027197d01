/** The options of `npm start` for servers that run already. */
import { resolve } from "node:path";
import { UsageError } from "../usage.ts";
import { choice, wholeNumber } from "./option-values.ts";

/** The first is the default. */
export const DIALECTS = ["auto", "vllm", "sglang", "llama-server", "openai"] as const;
const SLOTS_MAX = 65_536;

export type DialectName = (typeof DIALECTS)[number];

/** Of servers that run already. */
export interface HttpOptions {
  /** One agent each. */
  urls: string[];
  dialect: DialectName;
  slots: number | undefined;
  apiKeyEnv: string | undefined;
  caFile: string | undefined;
}

/** As they came. */
interface Values {
  url?: string[] | undefined;
  dialect?: string | undefined;
  slots?: string | undefined;
  "api-key-env"?: string | undefined;
  ca?: string | undefined;
}

const OF_HTTP = ["url", "dialect", "slots", "api-key-env", "ca"] as const;

/** @returns undefined for another engine. @throws UsageError also for one of these options beside another engine. */
export function httpOptions(values: Values, engine: string, cwd: string): HttpOptions | undefined {
  if (engine !== "http") {
    const given = OF_HTTP.find((name) => values[name] !== undefined);
    if (given !== undefined) throw new UsageError(`--${given} is for --engine http`);
    return undefined;
  }
  const { url: urls = [], dialect = DIALECTS[0], slots, "api-key-env": apiKeyEnv, ca } = values;
  if (urls.length === 0) throw new UsageError("--engine http needs --url");
  for (const url of urls) {
    if (!/^https?:\/\/[^/]/.test(url) || !URL.canParse(url))
      throw new UsageError(`--url must be the URL of a server, such as http://127.0.0.1:8000, not "${url}"`);
  }
  if (apiKeyEnv === "") throw new UsageError("--api-key-env needs the name of a variable");
  if (ca === "") throw new UsageError("--ca needs a file");
  return {
    urls,
    dialect: choice("dialect", dialect, DIALECTS),
    slots: slots === undefined ? undefined : wholeNumber("slots", slots, SLOTS_MAX),
    apiKeyEnv,
    caFile: ca === undefined ? undefined : resolve(cwd, ca),
  };
}
