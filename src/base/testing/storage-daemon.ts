import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** An event, or an answer. */
interface Told {
  readonly event?: string;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** QEMU's block layer with a monitor. */
export class StorageDaemon {
  readonly #process: ChildProcess;
  readonly #told: Told[] = [];
  #wake: () => void = () => undefined;

  /** @param args such as `--blockdev …` */
  constructor(args: readonly string[] = []) {
    this.#process = spawn("qemu-storage-daemon", [...args, "--chardev", "stdio,id=qmp", "--monitor", "chardev=qmp"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const lines = this.#process.stdout === null ? undefined : createInterface({ input: this.#process.stdout });
    lines?.on("line", (line) => {
      this.#told.push(JSON.parse(line));
      this.#wake();
    });
    this.#process.on("exit", () => this.#wake());
  }

  /** One command after the other. Rejects with what QEMU says against it. */
  async execute(execute: string, args: object = {}): Promise<void> {
    this.#process.stdin?.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    const answer = await this.#next((item) => "return" in item || item.error !== undefined);
    if (answer.error !== undefined) throw new Error(`${execute}: ${answer.error.desc}`);
  }

  /** Resolves when there was one of that name that nobody has waited for. */
  async event(name: string): Promise<void> {
    await this.#next((item) => item.event === name);
  }

  async end(): Promise<void> {
    if (this.#hasEnded) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null;
  }

  async #next(isIt: (told: Told) => boolean): Promise<Told> {
    for (;;) {
      const index = this.#told.findIndex(isIt);
      const [found] = index < 0 ? [] : this.#told.splice(index, 1);
      if (found !== undefined) return found;
      if (this.#hasEnded) throw new Error(`qemu-storage-daemon ended with ${this.#process.exitCode}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
