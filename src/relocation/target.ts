import { constants, type Stats } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, errorMessage } from "../base/errors.ts";
import { BufferPool, isPageAligned } from "./buffer-pool.ts";
import { RelocationError } from "./errors.ts";
import { encodeMarker, heldBackFrom, MARKER_BYTES, type Marker, parseMarker } from "./marker.ts";
import { isZero, zeroRuns } from "./zero-runs.ts";

/** What KubeVirt's launcher runs as (KubeVirt's QEMU user), and who must be able to write the image. */
const QEMU_ID = 107;
const IMAGE_MODE = 0o660;
const IMAGE_NAME = "disk.img";
/** Bytes that are judged as one when zeros are looked for: a smaller hole saves less than its system call costs. */
const HOLE_GRANULARITY = 64 * 1024;
const CHUNK = 1024 * 1024;
/** What O_DIRECT wants offsets and lengths to be multiples of, whatever the device. */
const DIRECT_UNIT = 4096;
const ZEROS = Buffer.alloc(CHUNK);
/** For looking at what is there. */
const looks = new BufferPool(CHUNK);

/**
 * Where a disk is copied to. A directory (a mounted claim) gets the file `disk.img`, sized exactly to the disk, sparse. Anything
 * else is written in place like a block device: it may be larger, and **what it holds counts as old bytes**, never as zeros.
 */
export class Target {
  /** The device, or the image's file. */
  readonly path: string;
  /** Bytes of the disk. */
  readonly size: number;
  /** Where the page begins that {@link finish} writes; nothing else touches it. */
  readonly heldBackFrom: number;
  readonly #handle: FileHandle;
  /**
   * The same file without the page cache, where that exists: data that nobody here reads again goes to the device uncopied, and what is on
   * the device is seen as it is.
   */
  readonly #direct: FileHandle | undefined;
  readonly #isImage: boolean;
  #failed: RelocationError | undefined;

  private constructor(
    path: string,
    size: number,
    handle: FileHandle,
    direct: FileHandle | undefined,
    isImage: boolean,
  ) {
    this.path = path;
    this.size = size;
    this.heldBackFrom = heldBackFrom(size);
    this.#handle = handle;
    this.#direct = direct;
    this.#isImage = isImage;
  }

  /**
   * Changes no byte of what is there; makes an empty image where the directory has none.
   *
   * @param access `compare` opens for reading only
   * @throws RelocationError RELOCATION_TARGET_UNFIT
   */
  static async open(path: string, size: number, access: "copy" | "compare"): Promise<Target> {
    try {
      const isImage = (await stat(path)).isDirectory();
      const file = isImage ? join(path, IMAGE_NAME) : path;
      const create = isImage && access === "copy" ? constants.O_CREAT : 0;
      const mode = access === "copy" ? constants.O_RDWR : constants.O_RDONLY;
      // A link in a claim that somebody prepared must not lead elsewhere; a device's path may be a link.
      const follow = isImage ? constants.O_NOFOLLOW : 0;
      const handle = await open(file, mode | create | follow, IMAGE_MODE);
      let direct: FileHandle | undefined;
      try {
        await checkFit(file, handle, size, isImage, access);
        if (access === "copy") direct = await openDirect(file, handle, follow);
        const target = new Target(file, size, handle, direct, isImage);
        if (create !== 0) {
          await target.#giveToQemu();
          await syncDirectory(path);
        }
        return target;
      } catch (error) {
        await direct?.close();
        await handle.close();
        throw error;
      }
    } catch (cause) {
      if (cause instanceof RelocationError) throw cause;
      throw new RelocationError("RELOCATION_TARGET_UNFIT", `${path}: ${errorMessage(cause)}`, {
        cause,
        hint: "give a block device, or the directory where a claim is mounted",
      });
    }
  }

  /** The marker of the relocation that this target belongs to; undefined where there is none that fits the disk. */
  async marker(): Promise<Marker | undefined> {
    if (this.heldBackFrom === this.size) return undefined;
    if (this.#isImage && (await this.#handle.stat()).size !== this.size) return undefined;
    const marker = parseMarker(await this.read(this.heldBackFrom, MARKER_BYTES));
    return marker?.size === this.size ? marker : undefined;
  }

  /**
   * Gives up what was copied before and marks the target, durably.
   *
   * @returns whether the target now reads as zeros everywhere below {@link heldBackFrom}
   */
  async begin(targetId: string): Promise<{ readonly isZeroed: boolean }> {
    await this.#attempt("preparing", async () => {
      if (this.#isImage) {
        await this.#handle.truncate(0);
        await this.#handle.truncate(this.size);
      }
      if (this.heldBackFrom < this.size) {
        await this.#writeAll(encodeMarker({ target: targetId, size: this.size }), this.heldBackFrom);
      }
      await this.#handle.sync();
    });
    return { isZeroed: this.#isImage };
  }

  /**
   * Writes, leaving out zeros where the target reads as zeros already.
   *
   * @param isZeroed whether the range is known to read as zeros
   */
  async write(offset: number, data: Buffer, isZeroed: boolean): Promise<void> {
    for (const { start, end, zero } of zeroRuns(data, HOLE_GRANULARITY)) {
      if (!zero) {
        await this.#attempt("writing", () => this.#writeAll(data.subarray(start, end), offset + start));
      } else if (!isZeroed) await this.writeZeroes(offset + start, end - start);
    }
  }

  /**
   * Makes a range read as zeros. Looks first: a thin volume stays thin, and reading one costs nothing. It looks past the page cache, which
   * may show zeros that an earlier Job could not write.
   */
  async writeZeroes(offset: number, length: number): Promise<void> {
    await looks.use(async (buffer) => {
      for (let at = offset; at < offset + length; at += CHUNK) {
        const wanted = Math.min(CHUNK, offset + length - at);
        const found = buffer.subarray(0, wanted);
        await this.#look(found, at);
        if (isZero(found)) continue;
        await this.#attempt("writing", () => this.#writeAll(ZEROS.subarray(0, wanted), at));
      }
    });
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const data = Buffer.allocUnsafe(length);
    await this.#readInto(data, offset);
    return data;
  }

  /**
   * Resolves when everything written before is on stable storage. A failure is final: what the page cache holds is unknown
   * from then on, and a later sync would succeed without having written it.
   */
  async sync(): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    try {
      await this.#attempt("syncing", () => this.#handle.sync());
    } catch (error) {
      this.#failed = error as RelocationError;
      throw error;
    }
  }

  /** Puts the held-back page in the marker's place, durably: from here on nothing can resume. */
  async finish(lastPage: Buffer): Promise<void> {
    if (lastPage.length > 0) {
      await this.#attempt("writing", () => this.#writeAll(lastPage, this.heldBackFrom));
    }
    await this.sync();
  }

  async close(): Promise<void> {
    await this.#direct?.close();
    await this.#handle.close();
  }

  /** Reads past the page cache, where that can be. */
  async #look(into: Buffer, offset: number): Promise<void> {
    const done = await this.#attempt("reading", () => this.#readDirect(into, offset));
    if (done < into.length) await this.#readInto(into.subarray(done), offset + done);
  }

  async #readInto(into: Buffer, offset: number): Promise<void> {
    await this.#attempt("reading", async () => {
      for (let done = 0; done < into.length; ) {
        const { bytesRead } = await this.#handle.read(into, done, into.length - done, offset + done);
        if (bytesRead === 0) throw new Error(`it ends at ${offset + done}`);
        done += bytesRead;
      }
    });
  }

  async #writeAll(data: Buffer, offset: number): Promise<void> {
    for (let done = await this.#writeDirect(data, offset); done < data.length; ) {
      const { bytesWritten } = await this.#handle.write(data, done, data.length - done, offset + done);
      done += bytesWritten;
    }
  }

  /** Gives back how many bytes were read past the page cache: all, or less where that cannot be. */
  #readDirect(into: Buffer, offset: number): Promise<number> {
    return this.#directly(into, offset, async (direct) => (await direct.read(into, 0, into.length, offset)).bytesRead);
  }

  /** The same of writing. */
  #writeDirect(data: Buffer, offset: number): Promise<number> {
    return this.#directly(
      data,
      offset,
      async (direct) => (await direct.write(data, 0, data.length, offset)).bytesWritten,
    );
  }

  async #directly(bytes: Buffer, offset: number, move: (direct: FileHandle) => Promise<number>): Promise<number> {
    const isFit = isPageAligned(bytes) && offset % DIRECT_UNIT === 0 && bytes.length % DIRECT_UNIT === 0;
    if (this.#direct === undefined || !isFit) return 0;
    try {
      return await move(this.#direct);
    } catch (error) {
      // The file system took the flag, but not this use of it.
      if (errorCode(error) !== "EINVAL") throw error;
      return 0;
    }
  }

  async #giveToQemu(): Promise<void> {
    try {
      await this.#handle.chown(QEMU_ID, QEMU_ID);
      await this.#handle.chmod(IMAGE_MODE);
    } catch (error) {
      // Whoever may not give it away runs as QEMU's user already, or the launcher changes it.
      if (errorCode(error) !== "EPERM") throw error;
    }
  }

  async #attempt<T>(what: string, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (cause) {
      if (cause instanceof RelocationError) throw cause;
      const isFull = ["ENOSPC", "EDQUOT"].includes(errorCode(cause) ?? "");
      throw new RelocationError("RELOCATION_TARGET_FAILED", `${what} ${this.path}: ${errorMessage(cause)}`, {
        cause,
        hint: isFull ? "the target claim is too small: a filesystem needs room of its own" : "see the target's storage",
      });
    }
  }
}

/** @returns undefined where the file system has no such thing, or the name leads to another file by now */
async function openDirect(path: string, handle: FileHandle, follow: number): Promise<FileHandle | undefined> {
  try {
    const direct = await open(path, constants.O_RDWR | constants.O_DIRECT | follow);
    const [expected, found] = [await handle.stat(), await direct.stat()];
    if (expected.dev === found.dev && expected.ino === found.ino) return direct;
    await direct.close();
    return undefined;
  } catch {
    return undefined;
  }
}

async function checkFit(
  path: string,
  handle: FileHandle,
  size: number,
  isImage: boolean,
  access: "copy" | "compare",
): Promise<void> {
  const found: Stats = await handle.stat();
  if (isImage && !found.isFile()) throw new RelocationError("RELOCATION_TARGET_UNFIT", `${path} is no file`);
  if (!isImage && !found.isFile() && !found.isBlockDevice()) {
    throw new RelocationError("RELOCATION_TARGET_UNFIT", `${path} is neither a block device nor a directory`);
  }
  if (isImage && access === "copy") return;
  // The size of a block device cannot be asked for portably; whether the last byte is there can.
  const { bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, size - 1);
  if (bytesRead === 0) {
    throw new RelocationError("RELOCATION_TARGET_UNFIT", `${path} is smaller than the disk of ${size} bytes`, {
      hint: "make a larger target claim",
    });
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
