import { constants } from "node:fs";
import { type FileHandle, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../../base/errors.ts";
import type { FileStep } from "./file-steps.ts";
import { StepThread } from "./step-thread.ts";

/** One file of an overlay. Reads and writes are complete or reject. */
export interface OverlayFile {
  readonly size: number;
  /** Fills `into` from `offset`; bytes beyond the file's end are zeros. */
  read(into: Uint8Array, offset: number): Promise<void>;
  write(bytes: Uint8Array, offset: number): Promise<void>;
  truncate(size: number): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
}

/** The directory that an overlay lives in. Tests put a simulated disk behind it, which loses what was not synced. */
export interface OverlayDirectory {
  /** Opens a file for reading and writing; makes an empty one where there is none. */
  open(name: string): Promise<OverlayFile>;
  exists(name: string): Promise<boolean>;
  list(): Promise<string[]>;
  /** Replaces `to`. Durable after {@link sync}. */
  rename(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes names durable. */
  sync(): Promise<void>;
  /**
   * Carries out a few steps on open files, each when the one before is over. Writes stay within what the file has.
   *
   * @throws StepError
   */
  inOrder(steps: readonly FileStep[]): Promise<void>;
  /** Bytes that can still be written; very many where that is not known. */
  free(): Promise<number>;
}

/** The real thing. */
export function overlayDirectory(path: string): OverlayDirectory {
  const thread = new StepThread((file) => (file instanceof HandleFile ? file.descriptor : undefined));
  return {
    open: (name) => HandleFile.open(join(path, name)),
    exists: async (name) => (await readdir(path)).includes(name),
    list: () => readdir(path),
    rename: (from, to) => rename(join(path, from), join(path, to)),
    remove: (name) => rm(join(path, name), { force: true }),
    sync: async () => {
      const handle = await open(path, "r");
      await handle.sync().finally(() => handle.close());
    },
    inOrder: (steps) => thread.carryOut(steps),
    free: async () => {
      const { blocks, bavail, bsize } = await statfs(path);
      // Some file systems do not tell.
      return blocks === 0 ? Number.MAX_SAFE_INTEGER : bavail * bsize;
    },
  };
}

class HandleFile implements OverlayFile {
  readonly #handle: FileHandle;
  #size: number;

  private constructor(handle: FileHandle, size: number) {
    this.#handle = handle;
    this.#size = size;
  }

  static async open(path: string): Promise<HandleFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    return new HandleFile(handle, (await handle.stat()).size);
  }

  get size(): number {
    return this.#size;
  }

  /** Good until the file is closed. */
  get descriptor(): number {
    return this.#handle.fd;
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    into.fill(0, done);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
    this.#size = Math.max(this.#size, offset + bytes.length);
  }

  async truncate(length: number): Promise<void> {
    await this.#handle.truncate(length);
    this.#size = length;
  }

  datasync(): Promise<void> {
    return this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** Whether a write failed, or was not begun, for want of space, which passes when the claim grows. */
export function isOutOfSpace(error: unknown): boolean {
  const code = errorCode(error);
  return code === "ENOSPC" || code === "EDQUOT" || code === "OVERLAY_FULL";
}
