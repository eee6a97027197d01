/** Runs the checks that its arguments name, and prints what each says. A process of its own, for `mutations.test.ts`. */
import { runChecks } from "./checks.ts";

process.stdout.write(JSON.stringify(runChecks(process.argv.slice(2))));
