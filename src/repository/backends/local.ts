import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errorCode } from "../../base/errors.ts";
import { RepositoryError } from "../errors.ts";
import { type Backend, describeFile, type FileName, type FileType } from "./backend.ts";

const NAME = /^[0-9a-f]{64}$/;
/** Packs that are kept open; a boot reads a few dozen packs again and again. */
const OPEN_FILES = 64;

/** A repository in a directory, in restic's default layout (`data/` fanned out by the first two digits). */
export class LocalBackend implements Backend {
  readonly location: string;
  readonly #directory: string;
  /** Insertion order is age: the first is the least recently used. */
  readonly #open = new Map<string, Promise<FileHandle>>();

  constructor(directory: string) {
    this.#directory = directory;
    this.location = directory;
  }

  async list(type: FileType): Promise<string[]> {
    const directory = join(this.#directory, type);
    try {
      const entries = await readdir(directory, { withFileTypes: true, recursive: type === "data" });
      return entries.filter((entry) => entry.isFile() && NAME.test(entry.name)).map((entry) => entry.name);
    } catch (cause) {
      throw this.#failure({ type, name: "" }, cause);
    }
  }

  async readAll(file: FileName, limit: number): Promise<Buffer> {
    try {
      const handle = await open(this.#path(file), "r");
      try {
        const { size } = await handle.stat();
        if (size > limit) {
          throw new RepositoryError(
            "REPOSITORY_OBJECT_DAMAGED",
            `${describeFile(file)} is ${size} bytes long, over ${limit}`,
          );
        }
        const content = Buffer.allocUnsafe(size);
        await readExactly(handle, content, 0, file);
        return content;
      } finally {
        await handle.close();
      }
    } catch (cause) {
      throw this.#failure(file, cause);
    }
  }

  async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    try {
      const content = Buffer.allocUnsafe(length);
      const handle = await this.#handle(file);
      await readExactly(handle, content, offset, file);
      return content;
    } catch (cause) {
      await this.#forget(this.#path(file));
      throw this.#failure(file, cause);
    }
  }

  async exists(file: FileName): Promise<boolean> {
    try {
      await stat(this.#path(file));
      return true;
    } catch (cause) {
      if (errorCode(cause) === "ENOENT" && (await this.#isThere())) return false;
      throw this.#failure(file, cause);
    }
  }

  async save(file: FileName, content: Buffer): Promise<void> {
    const path = this.#path(file);
    const temporary = `${path}-tmp-${randomUUID()}`;
    try {
      await mkdir(dirname(path), { recursive: true });
      const handle = await open(temporary, "wx", 0o600);
      try {
        await handle.writeFile(content);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      const directory = await open(dirname(path), "r");
      await directory.sync().finally(() => directory.close());
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw this.#failure(file, cause);
    }
  }

  async remove(file: FileName): Promise<void> {
    try {
      await unlink(this.#path(file));
    } catch (cause) {
      if (errorCode(cause) === "ENOENT" && (await this.#isThere())) return;
      throw this.#failure(file, cause);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((path) => this.#forget(path)));
  }

  #path(file: FileName): string {
    if (file.type === "config") return join(this.#directory, "config");
    if (!NAME.test(file.name)) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${file.type}: not a file name`);
    return join(this.#directory, file.type, ...(file.type === "data" ? [file.name.slice(0, 2)] : []), file.name);
  }

  async #handle(file: FileName): Promise<FileHandle> {
    const path = this.#path(file);
    const opened = this.#open.get(path) ?? open(path, "r");
    this.#open.delete(path);
    this.#open.set(path, opened);
    const oldest = this.#open.keys().next().value;
    if (this.#open.size > OPEN_FILES && oldest !== undefined) {
      // Reads under way on it keep it open: a FileHandle closes only after its pending operations.
      void this.#forget(oldest);
    }
    return opened;
  }

  async #forget(path: string): Promise<void> {
    const opened = this.#open.get(path);
    this.#open.delete(path);
    await opened?.then((handle) => handle.close()).catch(() => undefined);
  }

  /** Whether the repository itself is there: a directory that is not mounted must not look like a missing file. */
  async #isThere(): Promise<boolean> {
    return stat(join(this.#directory, "config")).then(
      () => true,
      () => false,
    );
  }

  #failure(file: FileName, cause: unknown): RepositoryError {
    if (cause instanceof RepositoryError) return cause;
    const code = errorCode(cause);
    const name = describeFile(file);
    if (code === "ENOENT" || code === "ENOTDIR") {
      return new RepositoryError("REPOSITORY_OBJECT_MISSING", `${name} is not in the repository at ${this.location}`, {
        cause,
      });
    }
    if (code === "EROFS" || code === "EACCES" || code === "EPERM") {
      return new RepositoryError("REPOSITORY_READ_ONLY", `${name} at ${this.location}: ${code}`, { cause });
    }
    return new RepositoryError("REPOSITORY_UNREACHABLE", `${name} at ${this.location}: ${code ?? "failed"}`, { cause });
  }
}

async function readExactly(handle: FileHandle, content: Buffer, offset: number, file: FileName): Promise<void> {
  let done = 0;
  while (done < content.length) {
    const { bytesRead } = await handle.read(content, done, content.length - done, offset + done);
    if (bytesRead === 0) {
      throw new RepositoryError(
        "REPOSITORY_OBJECT_DAMAGED",
        `${describeFile(file)} ends at byte ${offset + done}, before byte ${offset + content.length}`,
        { hint: "Run `restic check`: the file was cut off." },
      );
    }
    done += bytesRead;
  }
}
