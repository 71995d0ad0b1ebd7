import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { S3Credentials } from "../backends/s3-signature.ts";

/** A real S3 server (s3rver) in a process of its own, with one bucket. */
export class S3Server {
  readonly bucket = "backups";
  readonly credentials: S3Credentials = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };
  readonly port: number;
  readonly #process: ChildProcess;
  readonly #directory: string;

  private constructor(server: ChildProcess, directory: string, port: number) {
    this.#process = server;
    this.#directory = directory;
    this.port = port;
  }

  /** @param mode `strict`: signatures are checked, as they are over paths that name the bucket and an object */
  static async start(mode: "strict" | "lenient"): Promise<S3Server> {
    const directory = await mkdtemp(join(tmpdir(), "s3-server-"));
    const script = new URL("./s3-server-main.ts", import.meta.url).pathname;
    const server = fork(script, [directory, "backups", mode], {
      stdio: ["ignore", "pipe", "inherit", "ipc"],
      execArgv: ["--disable-warning=ExperimentalWarning"],
      env: {},
    });
    const port = await new Promise<number>((resolve, reject) => {
      server.once("exit", (code) => reject(new Error(`the S3 server ended with ${code}`)));
      server.stdout?.setEncoding("utf8").once("data", (text: string) => resolve(Number(text)));
    });
    // It ends with this process, and does not hold it up.
    (server.stdout as Socket | null)?.unref();
    server.channel?.unref();
    server.unref();
    return new S3Server(server, directory, port);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** What restic needs to reach a folder of the bucket. */
  resticEnvironment(): Record<string, string> {
    return { AWS_ACCESS_KEY_ID: this.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: this.credentials.secretAccessKey };
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await ended;
    await rm(this.#directory, { recursive: true });
  }
}
