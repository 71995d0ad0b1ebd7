import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";

/** `rclone serve restic` over a directory, on a free port of 127.0.0.1. */
export class RcloneServer {
  readonly url: string;
  readonly #process: ChildProcess;

  private constructor(url: string, server: ChildProcess) {
    this.url = url;
    this.#process = server;
  }

  /** @param flags of rclone, such as `--user` */
  static async start(directory: string, flags: readonly string[] = []): Promise<RcloneServer> {
    const server = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "rclone", "serve", "restic", "--addr", "127.0.0.1:0", ...flags, directory],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    const url = await new Promise<string>((resolve, reject) => {
      let said = "";
      server.once("exit", (code) => reject(new Error(`rclone ended with ${code}: ${said}`)));
      server.stderr?.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        const found = /https?:\/\/[\d.]+:\d+\//.exec(said)?.[0];
        if (found !== undefined) resolve(found);
      });
    });
    (server.stderr as Socket | null)?.unref();
    server.unref();
    return new RcloneServer(url, server);
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** Takes connections from then on, and answers nothing, until {@link resume}. */
  pause(): void {
    this.#process.kill("SIGSTOP");
  }

  resume(): void {
    this.#process.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await ended;
  }
}
