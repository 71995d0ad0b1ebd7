import { posix } from "node:path";
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
    return posix.join(this.folder(file.type), ...fanOut, file.name);
  }
}

/**
 * The layout of a repository, told as restic tells it: by where the keys are.
 *
 * @param holdsFiles whether there is a file named by an id in a folder of the repository
 */
export async function detectLayout(holdsFiles: (folder: string) => Promise<boolean>): Promise<Layout> {
  const isLegacy = !(await holdsFiles("keys")) && (await holdsFiles("key"));
  return new Layout(isLegacy);
}
