import { syncPath } from "../../base/durable-file.ts";

/** Makes the names in a directory durable. Each sync covers all names that were there when it began, so that many wait for one. */
export class DirectorySyncs {
  readonly #directory: string;
  readonly #sync: (directory: string) => Promise<void>;
  /** Names that were given since it was opened. */
  #given = 0;
  /** Of them, how many are durable; -1: not even those that were there before. */
  #durable = -1;
  #running: Promise<void> | undefined;

  constructor(directory: string, sync: (directory: string) => Promise<void> = syncPath) {
    this.#directory = directory;
    this.#sync = sync;
  }

  /** To be called once a file has its name: what {@link cover} is to be asked for. */
  given(): number {
    return ++this.#given;
  }

  /**
   * Resolves when a name is durable.
   *
   * @param name from {@link given}; 0 for one that was there before
   * @throws where the directory cannot be synced
   */
  async cover(name: number): Promise<void> {
    while (this.#durable < name) {
      // One that is under way may have begun before the name was there: then the next one is waited for, too.
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined;
      });
      await this.#running;
    }
  }

  async #run(): Promise<void> {
    const given = this.#given;
    await this.#sync(this.#directory);
    this.#durable = given;
  }
}
