/** Names of the workloads: the paper's four, and those where it is weak. */
export const workloadNames = [
  "sharegpt",
  "bfcl",
  "lats",
  "mixed",
  "swe",
  "deep-research",
  "agentx",
  "one-call",
  "equal",
] as const;

export type WorkloadName = (typeof workloadNames)[number];

export function isWorkloadName(text: string): text is WorkloadName {
  return workloadNames.some((name) => name === text);
}
