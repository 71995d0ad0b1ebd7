import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";

/** How a process ended. */
export interface Exit {
  /** As a container's: 128 and the signal's number where a signal ended it. */
  readonly exitCode: number;
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

/**
 * A process that never outlives this one, however this one ends: the kernel kills it with its parent (`setpriv --pdeathsig`). What it
 * prints goes to a file.
 */
export class Child {
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;

  constructor(program: string, args: readonly string[], env: Readonly<Record<string, string>>, logFile: string) {
    const log = openSync(logFile, "a", 0o600);
    this.#process = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args], {
      env,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.exited = new Promise((resolve) => {
      this.#process.once("error", () => resolve({ exitCode: 127 }));
      this.#process.once("exit", (code, signal) => resolve({ exitCode: code ?? 128 + (SIGNALS[signal ?? ""] ?? 0) }));
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Asks it to end, and makes it end after `graceMs`. */
  async stop(graceMs: number): Promise<Exit> {
    this.#process.kill("SIGTERM");
    const hard = setTimeout(() => this.#process.kill("SIGKILL"), graceMs);
    return this.exited.finally(() => clearTimeout(hard));
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }
}
