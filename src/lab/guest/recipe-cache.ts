import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, open, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where built guests are kept by default: they take long to make and are the same for every checkout. */
export function guestCacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "vmrestore", "guests");
}

interface CachedBuild {
  readonly directory: string;
  readonly name: string;
  /** All that the result depends on, as text; another recipe is another file. */
  readonly recipe: string;
}

/**
 * The file that `build` makes, kept under a name that carries a hash of the recipe. A build that fails or is interrupted leaves
 * nothing under that name; two builds at the same time are both right, and the last one stays.
 */
export async function cachedBuild(
  { directory, name, recipe }: CachedBuild,
  build: (scratch: string, output: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256").update(recipe).digest("hex").slice(0, 12);
  const result = join(directory, `${name}-${hash}.img`);
  if (existsSync(result)) return result;
  await mkdir(directory, { recursive: true });
  const scratch = await mkdtemp(join(directory, `.${name}-`));
  try {
    const output = join(scratch, "output.img");
    await build(scratch, output);
    const file = await open(output, "r");
    await file.sync();
    await file.close();
    await rename(output, result);
    return result;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
