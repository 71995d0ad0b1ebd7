import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const SCRIPT = `
mount -t tmpfs -o "size=$2" tmpfs "$1" && echo done
while read -r size; do mount -o "remount,size=$size" "$1" && echo done; done`;

/** A file system of few bytes, which can grow: a claim that fills up. It lives in a mount namespace of its own, and ends with it. */
export class SmallFileSystem {
  readonly #holder: ChildProcess;
  readonly #mountPoint: string;

  private constructor(holder: ChildProcess, mountPoint: string) {
    this.#holder = holder;
    this.#mountPoint = mountPoint;
  }

  static async create(bytes: number): Promise<SmallFileSystem> {
    const mountPoint = await mkdtemp(join(tmpdir(), "small-"));
    const asRoot = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
    const args = [...asRoot, "--mount", "sh", "-c", SCRIPT, "sh", mountPoint, String(bytes)];
    const holder = spawn("unshare", args, { stdio: ["pipe", "pipe", "inherit"] });
    const created = new SmallFileSystem(holder, mountPoint);
    await created.#answered();
    return created;
  }

  /** Its root, for every process. */
  get path(): string {
    return `/proc/${this.#holder.pid}/root${this.#mountPoint}`;
  }

  async resize(bytes: number): Promise<void> {
    this.#holder.stdin?.write(`${bytes}\n`);
    await this.#answered();
  }

  async remove(): Promise<void> {
    this.#holder.stdin?.end();
    await once(this.#holder, "close");
    await rm(this.#mountPoint, { recursive: true });
  }

  async #answered(): Promise<void> {
    const ended = once(this.#holder, "exit").then(() => Promise.reject(new Error("no small file system can be made")));
    ended.catch(() => undefined);
    await Promise.race([once(this.#holder.stdout ?? this.#holder, "data"), ended]);
  }
}
