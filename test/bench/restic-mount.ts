import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { launch, run } from "./commands.ts";
import type { Workplace } from "./workplace.ts";

const UNMOUNT_LIMIT_MS = 10_000;

export interface ResticMount {
  /** A file of the snapshot, by its path in it. */
  path(file: string): string;
  stop(): Promise<void>;
}

/** `restic mount`, once the snapshot can be seen. Needs FUSE and Debian's `fuse3`. */
export async function mountSnapshot(
  { passwordFile }: Pick<Workplace, "passwordFile">,
  repository: string,
  snapshot: string,
  directory: string,
): Promise<ResticMount> {
  await mkdir(directory, { recursive: true });
  const restic = launch("restic", ["--no-cache", "-r", repository, "-p", passwordFile, "mount", directory], {
    stdio: "ignore",
  });
  const root = join(directory, "ids", snapshot.slice(0, 8));
  const mount: ResticMount = {
    path: (file) => join(root, file),
    async stop() {
      const ended = new Promise<void>((resolve) => restic.once("exit", () => resolve()));
      if (restic.exitCode === null) {
        restic.kill("SIGINT");
        await Promise.race([ended, delay(UNMOUNT_LIMIT_MS)]);
      }
      // One that a reader still holds is let go later; the directory is free at once.
      await run("fusermount3", ["-uz", directory]).catch(() => undefined);
      restic.kill("SIGKILL");
    },
  };
  while (!(await stat(root).then(Boolean, () => false))) {
    if (restic.exitCode !== null) throw new Error("restic mount ended; it needs FUSE and Debian's package fuse3");
    await delay(20);
  }
  return mount;
}
