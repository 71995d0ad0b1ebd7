import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, readdir, rm, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { replaceFile } from "../../base/durable-file.ts";
import { errorCode } from "../../base/errors.ts";
import { isHexId } from "../blob-id.ts";
import { RepositoryError } from "../errors.ts";
import { type Backend, describeFile, type FileName, type FileType } from "./backend.ts";
import { detectLayout, type Layout } from "./layout.ts";
import { OpenFiles, openRegular } from "./open-files.ts";

/** Packs that are kept open; a boot reads a few dozen packs again and again. */
const OPEN_FILES = 64;

/** A repository in a directory, in either of the layouts that restic knows there. */
export class LocalBackend implements Backend {
  readonly location: string;
  readonly requestCost = 0;
  readonly #directory: string;
  readonly #open = new OpenFiles(OPEN_FILES);
  #layout: Promise<Layout> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.location = directory;
  }

  async list(type: FileType): Promise<string[]> {
    try {
      const layout = await this.#detected();
      const entries = await readdir(join(this.#directory, layout.folder(type)), {
        withFileTypes: true,
        recursive: type === "data",
      });
      return entries.filter((entry) => entry.isFile() && isHexId(entry.name)).map((entry) => entry.name);
    } catch (cause) {
      throw await this.#failure({ type, name: "" }, cause);
    }
  }

  async readAll(file: FileName, limit: number): Promise<Buffer> {
    try {
      const handle = await openRegular(await this.#path(file));
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
      throw await this.#failure(file, cause);
    }
  }

  async readRange(file: FileName, offset: number, length: number): Promise<Buffer> {
    try {
      return await this.#open.use(await this.#path(file), async (handle) => {
        const content = Buffer.allocUnsafe(length);
        await readExactly(handle, content, offset, file);
        return content;
      });
    } catch (cause) {
      throw await this.#failure(file, cause);
    }
  }

  async exists(file: FileName): Promise<boolean> {
    try {
      await stat(await this.#path(file));
      return true;
    } catch (cause) {
      const failure = await this.#failure(file, cause);
      if (failure.code === "REPOSITORY_OBJECT_MISSING") return false;
      throw failure;
    }
  }

  async save(file: FileName, content: Buffer): Promise<void> {
    let temporary: string | undefined;
    try {
      const path = await this.#path(file);
      temporary = `${path}-tmp-${randomUUID()}`;
      await mkdir(dirname(path), { recursive: true });
      await replaceFile(path, content, { exclusively: temporary });
    } catch (cause) {
      if (temporary !== undefined) await rm(temporary, { force: true }).catch(() => undefined);
      throw await this.#failure(file, cause, "write");
    }
  }

  async remove(file: FileName): Promise<void> {
    try {
      await unlink(await this.#path(file));
    } catch (cause) {
      const failure = await this.#failure(file, cause, "write");
      if (failure.code !== "REPOSITORY_OBJECT_MISSING") throw failure;
    }
  }

  async close(): Promise<void> {
    await this.#open.close();
  }

  async #path(file: FileName): Promise<string> {
    if (file.type === "config") return join(this.#directory, "config");
    return join(this.#directory, (await this.#detected()).path(file));
  }

  /** Looked up once, when the repository is there. */
  #detected(): Promise<Layout> {
    this.#layout ??= detectLayout((folder) => holdsFiles(join(this.#directory, folder))).catch((error: unknown) => {
      this.#layout = undefined;
      throw error;
    });
    return this.#layout;
  }

  async #failure(file: FileName, cause: unknown, intent: "read" | "write" = "read"): Promise<RepositoryError> {
    if (cause instanceof RepositoryError) return cause;
    const code = errorCode(cause);
    const what = `${describeFile(file)} at ${this.location}`;
    if (code === "ENOENT" || code === "ENOTDIR") {
      // A volume that is not mounted is an empty directory: its files are out of reach, not gone.
      if (file.type === "config" || (await isThere(join(this.#directory, "config")))) {
        return new RepositoryError("REPOSITORY_OBJECT_MISSING", `${what} is missing`, { cause });
      }
      return new RepositoryError("REPOSITORY_UNREACHABLE", `${this.location} holds no repository any more`, {
        cause,
        hint: "Check that its volume is mounted.",
      });
    }
    if (code === "EROFS" || ((code === "EACCES" || code === "EPERM") && intent === "write")) {
      return new RepositoryError("REPOSITORY_READ_ONLY", `${what} may not be written: ${code}`, { cause });
    }
    if (code === "EACCES" || code === "EPERM") {
      return new RepositoryError("REPOSITORY_FORBIDDEN", `${what} may not be read: ${code}`, {
        cause,
        hint: "restic lets only the owner read its files: run as that user (runAsUser), or change their mode.",
      });
    }
    return new RepositoryError("REPOSITORY_UNREACHABLE", `${what}: ${code ?? "failed"}`, { cause });
  }
}

async function holdsFiles(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).some(isHexId);
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return false;
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
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
