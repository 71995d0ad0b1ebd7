import type { ChildProcess } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { AgentProcessOptions } from "./agent-process.ts";
import { launch } from "./commands.ts";
import type { NoiseDisk } from "./workplace.ts";

type ServedDisk = Pick<NoiseDisk, "repository" | "passwordFile" | "snapshot" | "path" | "bytes">;

/** Serves a disk of a local repository over NBD through the media agent's read path, from a cache of its own below `state`. */
export async function startOwnServer(data: ServedDisk, state: string, socket: string): Promise<ChildProcess> {
  const config = { restore: { namespace: "bench", name: "bench", uid: "bench" }, epoch: 1, ...agentConfig(data) };
  await mkdir(join(state, "cache"), { recursive: true });
  const file = join(state, "config.json");
  await writeFile(file, JSON.stringify(config));
  const script = join(import.meta.dirname, "serve-disk.ts");
  return launch(process.execPath, [script, file, data.repository, data.passwordFile, state, socket], {
    stdio: ["ignore", "ignore", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "", MALLOC_ARENA_MAX: "2" },
  });
}

/** What a media agent is told, so that it serves such a disk. */
export function agentConfig({ snapshot, path, bytes }: ServedDisk): AgentProcessOptions["config"] {
  return {
    repository: { local: {} },
    snapshot: { id: snapshot, pin: false },
    disks: [{ name: "root", path, format: "raw", size: bytes }],
    cache: { sizeBytes: 2 * bytes },
  };
}
