import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { placeFile, syncPath } from "../base/durable-file.ts";

/** A file of a machine's TPM or firmware. */
export interface StateFile {
  /** On its claim; checked by whoever gives it. */
  readonly path: string;
  readonly content: Buffer;
}

/**
 * Puts a machine's TPM and firmware state onto its claim. Everything is durable when it resolves; run again, it does the same again.
 *
 * @returns how many files there were
 */
export async function putState(
  files: AsyncIterable<StateFile> | Iterable<StateFile>,
  directory: string,
): Promise<number> {
  const directories = new Set<string>();
  let count = 0;
  for await (const { path, content } of files) {
    const place = join(directory, path);
    await mkdir(dirname(place), { recursive: true, mode: 0o770 });
    await placeFile(place, content, { mode: 0o660 });
    for (let above = dirname(place); above.length >= directory.length; above = dirname(above)) directories.add(above);
    count++;
  }
  for (const each of directories) await syncPath(each);
  return count;
}
