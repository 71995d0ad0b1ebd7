import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { errorCode } from "../base/errors.ts";

/** Replaces a file's content: the old or the new is there after a crash at any point, the new one once it resolves. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  await directory.sync().finally(() => directory.close());
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
