/** The paper's idea, one line for each policy. */
export const policyLines: Partial<Record<string, string>> = {
  fcfs: "First come, first served: short programs wait behind long ones.",
  mlfq: "The call that has had the least service goes first; it knows no programs, so each new call of a long one starts at the top.",
  "program-fcfs": "The calls of the program that came first go first.",
  "round-robin": "Every call runs for a turn.",
  plas: "The program that has had the least service goes first, so short programs pass long ones.",
  atlas: "The program whose longest chain of service is the shortest goes first.",
  "atlas-dag": "The call whose own chain of parents has had the least service goes first.",
  "plas-in-order":
    "The program that has had the least service goes first; of those that have had about as much, the one that came first.",
  "atlas-in-order":
    "The program whose longest chain is the shortest goes first; of those about as long, the one that came first.",
  "las-decay": "The program that has had the fewest tokens lately goes first.",
};
