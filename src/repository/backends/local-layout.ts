import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../../base/errors.ts";
import { isHexId } from "../blob-id.ts";
import { RepositoryError } from "../errors.ts";
import type { FileName, FileType } from "./backend.ts";

/** How files are spread over folders (restic doc/design.rst, "Repository Layout"). */
export class Layout {
  readonly #legacy: boolean;

  /** @param legacy restic's old S3 layout, which copies of such buckets still have: singular names, packs not fanned out */
  constructor(legacy: boolean) {
    this.#legacy = legacy;
  }

  folder(type: FileType): string {
    return this.#legacy && (type === "keys" || type === "locks" || type === "snapshots") ? type.slice(0, -1) : type;
  }

  /** Relative to the repository. Names come from its index and may be anything, so they are checked here. */
  path(file: FileName): string {
    if (!isHexId(file.name)) {
      throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${file.type}: not the name of a file of restic`);
    }
    const fanOut = file.type === "data" && !this.#legacy ? [file.name.slice(0, 2)] : [];
    return join(this.folder(file.type), ...fanOut, file.name);
  }
}

/** The layout of the repository in a directory, told as restic tells it: by where the keys are. */
export async function detectLayout(directory: string): Promise<Layout> {
  const isLegacy = !(await holdsFiles(join(directory, "keys"))) && (await holdsFiles(join(directory, "key")));
  return new Layout(isLegacy);
}

async function holdsFiles(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).some(isHexId);
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return false;
    throw error;
  }
}
