/** A golden scenario: its text is compared with `golden/<name>.txt`, whose first line says what it shows. */
import type { CoreConfig, Ladder } from "../../src/index.ts";
import { Story } from "../story.ts";

export interface Scenario {
  name: string;
  text(): string;
}

export function scenario(
  name: string,
  shows: string,
  config: CoreConfig | readonly CoreConfig[],
  play: (story: Story) => void,
): Scenario {
  const configs: readonly CoreConfig[] = "policy" in config ? [config] : config;
  return {
    name,
    text: () =>
      [
        `${shows}\n`,
        ...configs.map((one) => {
          const story = new Story(one);
          story.say(titleOf(one));
          play(story);
          return story.text();
        }),
      ].join("\n"),
  };
}

/** What is not said has the value of the tests' configuration. */
function titleOf(config: CoreConfig): string {
  const {
    policy,
    ladder,
    balancer,
    beta = "default",
    betaFloorMs,
    promotedShare,
    windowSteps,
    reserveCallsMax,
  } = config;
  const levels = policy.ladder === "configured" ? ladder : policy.ladder;
  const parts = [
    `policy ${policy.name}`,
    "first" in levels
      ? `calibrated ladder, first ${levels.first}, ${levels.levels} levels, factor ${levels.factor}`
      : ladderText(levels),
  ];
  if (balancer.name !== "least-used") parts.push(`balancer ${balancer.name}`);
  if (beta !== Number.POSITIVE_INFINITY) parts.push(`β ${beta}, floor ${betaFloorMs ?? "default"}`);
  if (promotedShare !== Number.POSITIVE_INFINITY) parts.push(`share of promoted ${promotedShare ?? "default"}`);
  if (windowSteps !== 1) parts.push(`N ${windowSteps}`);
  if (reserveCallsMax > 0) parts.push(`reserve ${reserveCallsMax}`);
  if (config.misfit) parts.push(`misfit ${config.misfit}`);
  if (config.binding) parts.push(`binding ${config.binding}`);
  return parts.join(" · ");
}

function ladderText(ladder: Ladder): string {
  return ladder
    .map(({ lo, hi, quantum }, i) => `Q${i + 1} [${lo}, ${hi}) quantum ${quantum}`)
    .join(", ")
    .replaceAll("Infinity", "∞");
}
