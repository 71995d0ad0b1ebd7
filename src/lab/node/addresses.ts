import { readFile, rename, writeFile } from "node:fs/promises";
import { errorCode } from "../../base/errors.ts";

/** Pods live in 127.97.0.0/16: every one has an address of its own, and never one that another had. */
const PREFIX = "127.97";

/** Hands out loopback addresses, each once, also across restarts of the lab. */
export class PodAddresses {
  readonly #file: string;
  #last: number;

  private constructor(file: string, last: number) {
    this.#file = file;
    this.#last = last;
  }

  static async open(file: string): Promise<PodAddresses> {
    try {
      return new PodAddresses(file, Number(await readFile(file, "utf8")));
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      return new PodAddresses(file, 0);
    }
  }

  async next(): Promise<string> {
    this.#last = (this.#last % 65_000) + 1;
    const number = this.#last;
    await writeFile(`${this.#file}.new`, String(number));
    await rename(`${this.#file}.new`, this.#file);
    return `${PREFIX}.${number >> 8}.${number & 0xff}`;
  }
}
