import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { NoiseDisk } from "./workplace.ts";

type ServedDisk = Pick<NoiseDisk, "repository" | "passwordFile" | "snapshot" | "path" | "bytes">;

/** The command that serves a disk of a local repository through the media agent's read path, from a cache of its own below `state`. */
export async function ownServerCommand(
  data: ServedDisk,
  state: string,
  where: readonly string[],
): Promise<readonly string[]> {
  const config = {
    restore: { namespace: "bench", name: "bench", uid: "bench" },
    epoch: 1,
    repository: { local: {} },
    snapshot: { id: data.snapshot, pin: false },
    disks: [{ name: "root", path: data.path, format: "raw", size: data.bytes }],
    cache: { sizeBytes: 2 * data.bytes },
  };
  await mkdir(join(state, "cache"), { recursive: true });
  const file = join(state, "config.json");
  await writeFile(file, JSON.stringify(config));
  const script = join(import.meta.dirname, "serve-disk.ts");
  return [process.execPath, script, file, data.repository, data.passwordFile, state, ...where];
}

/** @param where a UNIX socket for NBD, or address, port and path for NFS, as `serve-disk.ts` takes them */
export async function startOwnServer(data: ServedDisk, state: string, where: readonly string[]): Promise<ChildProcess> {
  const [program = "", ...args] = await ownServerCommand(data, state, where);
  return spawn(program, args, {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "", MALLOC_ARENA_MAX: "2" },
  });
}
