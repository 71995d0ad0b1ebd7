import { readFile, rename, writeFile } from "node:fs/promises";
import { errorCode } from "../../base/errors.ts";

/** Every pod has a loopback address of its own, and not one that another had a moment ago. Hands them out in turn, also across restarts of the lab. */
export class PodAddresses {
  readonly #file: string;
  readonly #prefix: string;
  #last: number;

  private constructor(file: string, prefix: string, last: number) {
    this.#file = file;
    this.#prefix = prefix;
    this.#last = last;
  }

  /** @param prefix the first two octets */
  static async open(file: string, prefix: string): Promise<PodAddresses> {
    try {
      return new PodAddresses(file, prefix, Number(await readFile(file, "utf8")));
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      return new PodAddresses(file, prefix, 0);
    }
  }

  async next(): Promise<string> {
    this.#last = (this.#last % 65_000) + 1;
    const number = this.#last;
    await writeFile(`${this.#file}.new`, String(number));
    await rename(`${this.#file}.new`, this.#file);
    return `${this.#prefix}.${number >> 8}.${number & 0xff}`;
  }
}
