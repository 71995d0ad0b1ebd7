import { createHash } from "node:crypto";
import type { NfsExport } from "../export.ts";

/** A file in memory, with what a test wants to know of its use. */
export class MemoryExport implements NfsExport {
  readonly path: string;
  readonly handleKey: Buffer;
  readonly fsid = 77n;
  readonly fileName = "disk.img";
  readonly uid = 107;
  readonly gid = 107;
  readonly content: Buffer;
  stableWrites = 0;
  /** Who has mounted it, in their order. */
  readonly mounts: string[] = [];
  /** Through which mount the last write came. */
  writer: number | undefined;
  commits = 0;
  /** Runs before each write; may wait or throw. */
  beforeWrite: (offset: number) => Promise<void> = async () => {};

  constructor(path: string, content: Buffer) {
    this.path = path;
    this.content = content;
    this.handleKey = createHash("sha256").update(`key of ${path}`).digest();
  }

  get size(): number {
    return this.content.length;
  }

  async mount(machine: string): Promise<number> {
    return this.mounts.push(machine);
  }

  async read(offset: number, length: number, into = Buffer.allocUnsafe(length)): Promise<Buffer> {
    this.content.copy(into, 0, offset, offset + length);
    return into.subarray(0, length);
  }

  async write(offset: number, data: Buffer, stable: boolean, mount: number): Promise<void> {
    await this.beforeWrite(offset);
    data.copy(this.content, offset);
    this.writer = mount;
    if (stable) this.stableWrites++;
  }

  async commit(): Promise<void> {
    this.commits++;
  }
}
