/** The yardstick of the HTTP engine: the same load sent straight to the server. */
import { type Endpoint, openEndpoint } from "../http.ts";
import { firstModel } from "../run.ts";
import { tokensPerS } from "./calls.ts";
import type { DecodeLoad } from "./load.ts";

export class Straight {
  readonly #endpoint: Endpoint;
  readonly #model: string;

  private constructor(endpoint: Endpoint, model: string) {
    this.#endpoint = endpoint;
    this.#model = model;
  }

  /** @param url with its version. @throws Error when nobody answers. */
  static async open(url: string): Promise<Straight> {
    const endpoint = openEndpoint(url);
    try {
      return new Straight(endpoint, await firstModel(endpoint, url));
    } catch (error) {
      endpoint.close();
      throw error;
    }
  }

  async tokensPerS(load: DecodeLoad): Promise<number> {
    return await tokensPerS(this.#endpoint, this.#model, load);
  }

  close(): void {
    this.#endpoint.close();
  }
}
