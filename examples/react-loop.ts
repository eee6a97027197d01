/**
 * An agent that thinks, uses a tool, and thinks again (ReAct). Tools are parsed from the text: a line
 * `Action: calculator: 17 * 23` or `Action: lookup: tea`. A very small model often does not keep to that; the loop is
 * bounded, and says what happened.
 *
 *     node examples/react-loop.ts [http://127.0.0.1:8080]
 */
import { program } from "@autellix/client";
import type OpenAI from "openai";
import { calculate } from "./calculator.ts";
import { BASE_URL, openChat } from "./openai.ts";

const TURNS_MAX = 4;
const QUESTION = "A box of tea holds 24 bags. How many bags are in 17 boxes?";
const INSTRUCTIONS = `Use a tool, then answer. Write one line per turn, one of:
Action: calculator: <arithmetic>
Action: lookup: <one word>
Answer: <the answer>`;
/** A small model follows an example better than a rule. */
const EXAMPLE: OpenAI.ChatCompletionMessageParam[] = [
  { role: "user", content: "A cat has 4 legs. How many legs have 6 cats?" },
  { role: "assistant", content: "Action: calculator: 6 * 4" },
  { role: "user", content: "Result: 24" },
  { role: "assistant", content: "Answer: 24 legs" },
];

const facts: Record<string, string> = {
  tea: "Tea is made by pouring hot water over leaves of Camellia sinensis.",
  box: "A box of tea usually holds 20 to 100 bags.",
};

const tools: Record<string, (input: string) => string> = {
  // `17 * 24 = 392`: the model's own result is not wanted.
  calculator: (input) => String(calculate(input.split("=", 1)[0] ?? "")),
  lookup: (input) => facts[input.toLowerCase()] ?? `nothing is known about "${input}"`,
};

/** @returns the answer, or undefined when the model gave none within its turns. */
export async function main(baseUrl: string = BASE_URL): Promise<string | undefined> {
  const { ask } = await openChat(baseUrl);
  return await program("react", async (p) => {
    console.log(`program ${p.id}\nquestion: ${QUESTION}`);
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      { role: "system", content: INSTRUCTIONS },
      ...EXAMPLE,
      { role: "user", content: QUESTION },
    ];
    for (let turn = 1; turn <= TURNS_MAX; turn++) {
      const text = await ask(messages);
      console.log(`\nturn ${turn}: ${text.trim()}`);
      // Only the first line counts: what stands behind an action is a guess at its result.
      const [line = text, verb, rest = ""] = /^\s*(Action|Answer):[ \t]*(.+)$/m.exec(text) ?? [];
      if (verb === "Answer") {
        console.log(`\nanswer after ${turn} turns: ${rest}`);
        return rest;
      }
      const result = useTool(rest);
      console.log(`  ${result}`);
      messages.push({ role: "assistant", content: line.trim() }, { role: "user", content: result });
    }
    console.log(`\nno answer after ${TURNS_MAX} turns: this model does not keep to the format`);
    return undefined;
  });
}

/** @param action `<tool>: <input>` */
function useTool(action: string): string {
  const [, name = "", input = ""] = /^(\w+)\s*:\s*(.+)$/.exec(action) ?? [];
  const tool = Object.hasOwn(tools, name) ? tools[name] : undefined;
  if (!tool) return 'Result: no tool was used; write "Action: calculator: ..." or "Answer: ..."';
  try {
    return `Result: ${tool(input.trim())}`;
  } catch (error) {
    // A tool that fails is news for the model, not the end of the program.
    return `Result: ${error instanceof Error ? error.message : String(error)}`;
  }
}

if (import.meta.main) await main(process.argv[2]);
