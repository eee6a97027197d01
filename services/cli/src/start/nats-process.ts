/** The own nats-server: started again when it dies, on the same port and store. */
import { type NatsServer, type NatsServerOptions, reasonOf, startNatsServer } from "@autellix/runtime";
import { Restarts } from "./restarts.ts";

export interface NatsContext {
  onStatus(text: string): void;
  /** A process was started. */
  onPid(pid: number): void;
}

export class NatsProcess {
  readonly #options: NatsServerOptions;
  readonly #context: NatsContext;
  readonly #restarts = new Restarts();
  readonly #abort = new AbortController();
  #server: NatsServer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restarting: Promise<void> = Promise.resolve();

  constructor(options: NatsServerOptions, context: NatsContext) {
    this.#options = options;
    this.#context = context;
  }

  /** @returns its URL. @throws PartError when it cannot start; it is then not started again. */
  async start(): Promise<string> {
    const { signal } = this.#options;
    const signals = signal === undefined ? [this.#abort.signal] : [signal, this.#abort.signal];
    this.#restarts.started();
    const server = await startNatsServer({ ...this.#options, signal: AbortSignal.any(signals) });
    this.#server = server;
    this.#context.onPid(server.groupId);
    void server.exited.then((code) => {
      this.#server = undefined;
      if (!this.#abort.signal.aborted) this.#again(`ended with code ${code}`);
    });
    return server.url;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    clearTimeout(this.#timer);
    await this.#restarting;
    await this.#server?.stop();
  }

  #again(how: string): void {
    const delayMs = this.#restarts.died();
    this.#context.onStatus(`nats-server ${how}; starting it again in ${delayMs} ms`);
    this.#timer = setTimeout(() => {
      this.#restarting = this.start().then(
        () => this.#context.onStatus("nats-server is back"),
        (error: unknown) => {
          if (!this.#abort.signal.aborted) this.#again(`could not start (${reasonOf(error)})`);
        },
      );
    }, delayMs);
  }
}
