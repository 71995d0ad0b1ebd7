import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";
import type { ImageFile } from "./image-file.ts";
import type { OpenContext } from "./open-context.ts";
import type { VirtualImage } from "./virtual-image.ts";

/** Where a VHD or VHDX says that its parent is. */
export interface NamedParent {
  readonly format: "vhd" | "vhdx";
  /** The first that is in the snapshot counts. */
  readonly names: Iterable<string>;
  /** Rejects where a file of the right name is not the parent. */
  readonly check: (sibling: ImageFile) => Promise<void>;
}

/**
 * Opens the parent of a differencing image.
 *
 * @throws DiskError IMAGE_FILE_MISSING where no name leads to a file of the snapshot; what the check and opening it throw
 */
export async function openNamedParent(
  file: ImageFile,
  { format, names, check }: NamedParent,
  context: OpenContext,
): Promise<VirtualImage> {
  let failure: unknown = new DiskError("IMAGE_FILE_MISSING", `${file.path} does not tell its parent's name`, {
    hint: "Merge the disk with its parent before it is backed up.",
  });
  for (const name of names) {
    try {
      await check(await context.sibling(file, name));
      return await context.parent(file, name, format);
    } catch (error) {
      if (errorCode(error) !== "IMAGE_FILE_MISSING") throw error;
      failure = error;
    }
  }
  throw failure;
}
