import { constants } from "node:fs";
import { open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../../base/errors.ts";

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
  /** Bytes that can still be written; very many where that is not known. */
  free(): Promise<number>;
}

/** The real thing. */
export function overlayDirectory(path: string): OverlayDirectory {
  return {
    open: (name) => openFile(join(path, name)),
    exists: async (name) => (await readdir(path)).includes(name),
    list: () => readdir(path),
    rename: (from, to) => rename(join(path, from), join(path, to)),
    remove: (name) => rm(join(path, name), { force: true }),
    sync: async () => {
      const handle = await open(path, "r");
      await handle.sync().finally(() => handle.close());
    },
    free: async () => {
      const { blocks, bavail, bsize } = await statfs(path);
      // Some file systems do not tell.
      return blocks === 0 ? Number.MAX_SAFE_INTEGER : bavail * bsize;
    },
  };
}

async function openFile(path: string): Promise<OverlayFile> {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let { size } = await handle.stat();
  return {
    get size() {
      return size;
    },
    async read(into, offset) {
      let done = 0;
      while (done < into.length) {
        const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      into.fill(0, done);
    },
    async write(bytes, offset) {
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
        done += bytesWritten;
      }
      size = Math.max(size, offset + bytes.length);
    },
    async truncate(length) {
      await handle.truncate(length);
      size = length;
    },
    datasync: () => handle.datasync(),
    close: () => handle.close(),
  };
}

/** Whether a write failed, or was not begun, for want of space, which passes when the claim grows. */
export function isOutOfSpace(error: unknown): boolean {
  const code = errorCode(error);
  return code === "ENOSPC" || code === "EDQUOT" || code === "OVERLAY_FULL";
}
