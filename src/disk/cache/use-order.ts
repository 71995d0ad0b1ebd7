import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

const FILE = "order";
const ID_BYTES = 32;

/** Bytes that the file may take on the disk, the one that replaces it included, of a cache of this size. */
export function useOrderBytes(limit: number): number {
  return 2 * Math.ceil(limit / 2 ** 25) * 4096;
}

/**
 * Gives the entries of a cache that was opened the order in which they were used before; those that are not in it came after it
 * was written. Without the file, or with a damaged one, the order is lost and nothing else.
 *
 * @returns the highest use
 */
export async function restoreUses(directory: string, entries: ReadonlyMap<string, { used: number }>): Promise<number> {
  const bytes = await readFile(join(directory, FILE)).catch(() => Buffer.alloc(0));
  let uses = 0;
  for (let at = 0; at + ID_BYTES <= bytes.length; at += ID_BYTES) {
    const entry = entries.get(bytes.toString("hex", at, at + ID_BYTES));
    if (entry !== undefined) entry.used = ++uses;
  }
  for (const entry of entries.values()) if (entry.used === 0) entry.used = ++uses;
  return uses;
}

/** Writes the ids of the entries, the one used longest ago first; of too many, the last used. */
export async function saveUses(
  directory: string,
  entries: ReadonlyMap<string, { readonly used: number }>,
  limit: number,
): Promise<void> {
  const most = useOrderBytes(limit) / 2 / ID_BYTES;
  const ordered = [...entries].sort(([, a], [, b]) => a.used - b.used).slice(-most);
  const path = join(directory, FILE);
  await writeFile(`${path}.part`, Buffer.from(ordered.map(([id]) => id).join(""), "hex"), { mode: 0o600 });
  await rename(`${path}.part`, path);
}
