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
  await syncPath(dirname(path));
}

/** What a reader finds there is there after a crash too: whoever wrote it may have died before it was durable. */
export async function makeDurable(path: string): Promise<void> {
  await syncPath(path);
  await syncPath(dirname(path));
}

async function syncPath(path: string): Promise<void> {
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
