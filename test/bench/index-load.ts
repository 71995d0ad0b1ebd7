import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { LocalBackend } from "../../src/repository/backends/local.ts";
import type { CryptoKey } from "../../src/repository/crypto.ts";
import { writeBigIndex, writeBigSnapshot } from "../../src/repository/testing/big-index.ts";
import { writeCheapKey } from "../../src/repository/testing/keys.ts";
import { saveUnpackedJson } from "../../src/repository/unpacked.ts";
import { note } from "./commands.ts";
import { renderTable } from "./table.ts";

const PASSWORD = "password";
/** Blobs that the disk is made of: 93 GiB, and 0.9 TiB. */
const NEEDED = [100_000, 1_000_000];
const PROCESS = join(import.meta.dirname, "../../src/repository/testing/open-disk-main.ts");

/**
 * A disk is opened in a repository of `count` blobs, all of them made up, by a process that has all of the media agent's modules in memory.
 *
 * @param dist what is built of `src`
 */
export async function benchIndexLoad(directory: string, dist: string, count: number): Promise<string> {
  const { repository, snapshots } = await prepare(directory, count);
  const rows: string[][] = [];
  for (const needed of NEEDED) {
    const scratch = await mkdtemp(join(directory, "index-"));
    try {
      for (const index of ["read from the repository", "found on the cache claim"]) {
        const { seconds, beforeMiB, peakMiB, longestTurn } = await open(
          dist,
          repository,
          snapshots[needed] ?? "",
          scratch,
        );
        rows.push([
          `${needed}, ${index}`,
          seconds.toFixed(1),
          beforeMiB.toFixed(0),
          peakMiB.toFixed(0),
          `${longestTurn}`,
        ]);
      }
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
  const title = `Opening a disk in a repository of ${count} blobs, with all of the media agent's modules in memory (resident memory, shared libraries too)`;
  const head = [
    "blobs needed, index",
    "seconds",
    "MiB before",
    "peak MiB",
    "longest turn of the event loop (ms of CPU)",
  ];
  return `${title}\n\n${renderTable(head, rows)}`;
}

/** Made once: writing twenty million blobs takes minutes. */
async function prepare(
  directory: string,
  count: number,
): Promise<{ repository: string; snapshots: Record<number, string> }> {
  const repository = join(directory, `index-of-${count}`);
  const list = join(repository, "made-up-snapshots.json");
  if (!existsSync(list)) {
    const unfinished = `${repository}.part`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { recursive: true });
    const backend = new LocalBackend(unfinished);
    const key: CryptoKey = { encryption: Buffer.alloc(32, 1), macK: Buffer.alloc(16, 2), macR: Buffer.alloc(16, 3) };
    await writeCheapKey(backend, key, PASSWORD);
    await saveUnpackedJson(backend, key, 2, "config", { version: 2, id: "f".repeat(64) });
    await writeBigIndex(backend, key, 2, count);
    const snapshots: Record<number, string> = {};
    for (const needed of NEEDED) snapshots[needed] = await writeBigSnapshot(backend, key, count, needed);
    await writeFile(join(unfinished, "made-up-snapshots.json"), JSON.stringify(snapshots));
    await rename(unfinished, repository);
  }
  return { repository, snapshots: JSON.parse(await readFile(list, "utf8")) };
}

interface Opened {
  readonly seconds: number;
  readonly beforeMiB: number;
  readonly peakMiB: number;
  readonly longestTurn: number;
}

async function open(dist: string, repository: string, snapshot: string, indexCache: string): Promise<Opened> {
  const modules = ["repository/repository.js", "repository/backends/local.js"].map((path) => url(dist, path));
  const args = [
    ...["--disable-warning=ExperimentalWarning", PROCESS, repository, PASSWORD, snapshot],
    ...[...modules, JSON.stringify({ indexCache }), url(dist, "media-agent/serve-restore.js")],
  ];
  note(["MALLOC_ARENA_MAX=2", process.execPath, ...args]);
  const env = { ...process.env, NODE_OPTIONS: "", MALLOC_ARENA_MAX: "2" };
  const { stdout } = await promisify(execFile)(process.execPath, args, { env });
  return JSON.parse(stdout);
}

function url(dist: string, path: string): string {
  return pathToFileURL(join(dist, path)).toString();
}
