/** `autellix doctor`: looks at everything, says in one sentence each what is wrong and what to do. */
import { paint, type Style } from "../text.ts";
import type { Evidence, Finding, Level } from "./evidence.ts";
import { type DoctorOptions, gather } from "./gather.ts";
import { payloadFindings, serverFindings, streamFindings, syncFindings } from "./nats-rules.ts";
import { clockFindings, engineFindings, frontendFindings, leaderFindings, versionFindings } from "./system-rules.ts";

/** All rules over what was gathered, in the order in which a person would look. */
export function judge(evidence: Evidence): Finding[] {
  return [
    ...serverFindings(evidence),
    ...payloadFindings(evidence),
    ...streamFindings(evidence),
    ...syncFindings(evidence),
    ...clockFindings(evidence),
    ...versionFindings(evidence),
    ...evidence.unknownPools.map(
      (text): Finding => ({ check: "pools", level: "wrong", text: `${text}: name one that is there with --pool.` }),
    ),
    ...leaderFindings(evidence),
    ...engineFindings(evidence),
    ...frontendFindings(evidence),
    ...evidence.invalid.map(
      (text): Finding => ({
        check: "facts",
        level: "note",
        text: `A process answered with what is no answer (${text}).`,
      }),
    ),
  ].map((finding) => ({ ...finding, text: capital(finding.text) }));
}

/** @returns the exit code: 1 when something is wrong. */
export async function doctor(
  options: DoctorOptions,
  as: { json: boolean; colors: boolean },
  print: (text: string) => void,
): Promise<number> {
  const gathered = await gather(options);
  const findings =
    "findings" in gathered ? gathered.findings.map((f) => ({ ...f, text: capital(f.text) })) : judge(gathered.evidence);
  const wrong = findings.filter(({ level }) => level === "wrong").length;
  if (as.json) {
    print(
      `${JSON.stringify({ schema: 1, command: "doctor", atMs: Date.now(), ok: wrong === 0, findings }, null, 2)}\n`,
    );
  } else {
    for (const { level, text } of findings)
      print(`${paint(LABELS[level].padEnd(6), STYLES[level], as.colors)} ${text}\n`);
    print(wrong === 0 ? "Nothing is wrong.\n" : `${wrong} thing${wrong === 1 ? " is" : "s are"} wrong.\n`);
  }
  return wrong === 0 ? 0 : 1;
}

const LABELS: Record<Level, string> = { ok: "ok", note: "note", wrong: "WRONG" };
const STYLES: Record<Level, Style> = { ok: "green", note: "yellow", wrong: "red" };

function capital(text: string): string {
  // Names keep their case: nats-server, a path.
  return /^(nats-server|\/)/.test(text) ? text : text.slice(0, 1).toUpperCase() + text.slice(1);
}
