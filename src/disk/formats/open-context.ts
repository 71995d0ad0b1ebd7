import { DiskError } from "../errors.ts";
import { type FindFile, type ImageFile, quoted } from "./image-file.ts";
import type { Tables } from "./tables.ts";
import type { ImageFormat, VirtualImage } from "./virtual-image.ts";

/** What a format's module needs to open an image that may consist of several files. */
export interface OpenContext {
  readonly tables: Tables;
  /**
   * Another file of the same snapshot, by the name that `from` gives it.
   *
   * @throws DiskError IMAGE_AMBIGUOUS where the format was not named by somebody but recognised: then an image is one file only;
   *   IMAGE_FILE_MISSING
   */
  sibling(from: ImageFile, name: string): Promise<ImageFile>;
  /**
   * The image that `from` is a delta to.
   *
   * @param format where the image tells it; `auto` to recognise it, safely
   * @throws as {@link sibling}, and what opening it throws
   */
  parent(from: ImageFile, name: string, format: ImageFormat | "auto"): Promise<VirtualImage>;
}

/**
 * The path of a file that another one names: absolute, or relative to that one's directory. Undefined where it leads out of the
 * snapshot.
 */
export function resolvePath(from: string, name: string): string | undefined {
  const parts = name.startsWith("/") ? [] : from.split("/").slice(0, -1).filter(Boolean);
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return `/${parts.join("/")}`;
}

/** @throws DiskError IMAGE_FILE_MISSING */
export async function findSibling(find: FindFile, from: ImageFile, name: string): Promise<ImageFile> {
  const path = name.includes("\0") ? undefined : resolvePath(from.path, name);
  const found = path === undefined ? undefined : await find(path);
  if (found !== undefined) return found;
  throw new DiskError("IMAGE_FILE_MISSING", `${from.path} needs the file ${quoted(name)}, which the snapshot lacks`, {
    hint: "Back up all files of the disk in one snapshot, with the same names and places; or convert it to one file first.",
  });
}
