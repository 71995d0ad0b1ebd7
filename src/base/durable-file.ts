import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode } from "./errors.ts";

export interface ReplaceOptions {
  /** Permissions of the new file; 0o600 unless given. */
  readonly mode?: number;
  /** Where it is written before it takes its place, in the same directory: `<path>.new` unless given. One that may not be there already. */
  readonly exclusively?: string;
}

/** Replaces a file's content: the old or the new is there after a crash at any point, the new one once it resolves. */
export async function replaceFile(
  path: string,
  content: string | Uint8Array,
  options: ReplaceOptions = {},
): Promise<void> {
  await placeFile(path, content, options);
  await syncPath(dirname(path));
}

/** As {@link replaceFile}, but whether it is the old or the new is only sure once the directory was synced. */
export async function placeFile(
  path: string,
  content: string | Uint8Array,
  { mode = 0o600, exclusively }: ReplaceOptions = {},
): Promise<void> {
  const temporary = exclusively ?? `${path}.new`;
  const handle = await open(temporary, exclusively === undefined ? "w" : "wx", mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
}

/** What a reader finds there is there after a crash too: whoever wrote it may have died before it was durable. */
export async function makeDurable(path: string): Promise<void> {
  await syncPath(path);
  await syncPath(dirname(path));
}

/** Of a file its content, of a directory its names. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  await handle.sync().finally(() => handle.close());
}

/** Undefined where there is no such file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
