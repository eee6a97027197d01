/** The parent's side of a process on a core of its own. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Answer, Order } from "./child.ts";

export interface PinnedChild {
  /** @throws Error with the child's reason, or when it has ended. */
  ask(order: Order): Promise<unknown>;
  stop(): Promise<void>;
}

/** @param core for `taskset -c`; undefined: not pinned. */
export function startPinned(core: string | undefined): PinnedChild {
  const node = [process.execPath, fileURLToPath(new URL("./child.ts", import.meta.url))];
  const [command = "", ...args] = core === undefined ? node : ["taskset", "-c", core, ...node];
  const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  let pending: { resolve: (value: unknown) => void; reject: (error: Error) => void } | undefined;
  const exited = new Promise<void>((done) => {
    const end = (reason: string) => {
      pending?.reject(new Error(`the measuring process ended: ${reason}`));
      done();
    };
    child.once("exit", (code, signal) => end(signal ?? `code ${code}`));
    child.once("error", (error) => end(error.message));
  });
  child.on("message", (answer: Answer) => {
    if (answer.ok) pending?.resolve(answer.value);
    else pending?.reject(Object.assign(new Error(answer.error), { name: answer.name }));
    pending = undefined;
  });
  return {
    ask(order) {
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      pending = { resolve, reject };
      child.send(order, (error) => {
        if (error) reject(error);
      });
      return promise;
    },
    async stop() {
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}
