/** A program like LATS: rounds of parallel expansions of a tree, each judged by another call, a tool between rounds. */
import { setTimeout as pause } from "node:timers/promises";

export const ROUNDS = 6;
export const BRANCHES = 5;
/** Calls of the whole program: an expansion and its judgement per branch and round. */
export const CALLS = ROUNDS * BRANCHES * 2;
export const TOOL = "look_up";
const TOOL_MS = 60;

export interface LatsOptions {
  /** Frontends, used in turn. */
  urls: readonly string[];
  program: string;
  model: string;
  /** Words that stand in every prompt. */
  marker: string;
  /** Of the first call. */
  traceparent: string;
  completionTokens: number;
  /** After the expansions of this round were sent. */
  onRound(round: number): void;
}

export interface LatsRun {
  startedAtMs: number;
  endedAtMs: number;
  /** Text of all answers. */
  answers: string;
}

export async function runLats(options: LatsOptions): Promise<LatsRun> {
  const { urls, program, model, marker, traceparent, completionTokens } = options;
  let sent = 0;
  const answers: string[] = [];
  const ask = async (messages: unknown[], more: Record<string, string> = {}): Promise<void> => {
    const headers = { "content-type": "application/json", "Autellix-Program-Id": program, ...more };
    const body = JSON.stringify({ model, messages, max_tokens: completionTokens });
    const response = await fetch(`${urls[sent++ % urls.length]}/v1/chat/completions`, {
      method: "POST",
      headers,
      body,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status} ${text}`);
    const answer = JSON.parse(text) as { choices: [{ message: { content: string } }] };
    answers.push(answer.choices[0].message.content);
  };
  const user = (text: string) => ({ role: "user", content: `${marker} ${text}` });
  const tool = [
    {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "t1", type: "function", function: { name: TOOL, arguments: "{}" } }],
    },
    { role: "tool", tool_call_id: "t1", content: `${marker} found` },
  ];
  const startedAtMs = Date.now();
  for (let round = 0; round < ROUNDS; round++) {
    const branches = Array.from({ length: BRANCHES }, async (_, branch) => {
      const first = round === 0 && branch === 0;
      const asks = user(`expand ${round}.${branch}`);
      await ask(round === 0 ? [asks] : [asks, ...tool], first ? { traceparent } : {});
      await ask([user(`judge ${round}.${branch}`)]);
    });
    options.onRound(round);
    await Promise.all(branches);
    if (round < ROUNDS - 1) await pause(TOOL_MS);
  }
  return { startedAtMs, endedAtMs: Date.now(), answers: answers.join(" ") };
}
