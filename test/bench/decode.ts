import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import { LocalBackend } from "../../src/repository/backends/local.ts";
import { Repository } from "../../src/repository/repository.ts";
import { median, renderTable } from "./table.ts";

interface Stored {
  readonly name: string;
  readonly repository: string;
  readonly passwordFile: string;
  readonly snapshot: string;
  /** Of the disk in the snapshot. */
  readonly path: string;
}

/** Blobs from a local repository in the page cache, decrypted, verified and decompressed: with one thread, and with one for each core. */
export async function benchDecode(disks: readonly Stored[], rounds: number): Promise<string> {
  const threads = [...new Set([1, cpus().length])];
  const rows: string[][] = [];
  for (const disk of disks) {
    const rates = new Map<number, number[]>(threads.map((count) => [count, []]));
    await decodeAll(disk, cpus().length); // brings the packs into the page cache
    for (let round = 0; round < rounds; round++) {
      for (const count of threads) rates.get(count)?.push(await decodeAll(disk, count));
    }
    rows.push([disk.name, ...threads.map((count) => median(rates.get(count) ?? []).toFixed(0))]);
  }
  const title = `Decode pipeline: MAC, AES-256-CTR, zstd, SHA-256 (plain MiB/s, medians of ${rounds} rounds)`;
  return `${title}\n\n${renderTable(["", ...threads.map((count) => `${count} thread${count === 1 ? "" : "s"}`)], rows)}`;
}

/** @returns plain MiB per second */
async function decodeAll(disk: Stored, threads: number): Promise<number> {
  const password = await readFile(disk.passwordFile, "utf8");
  const repository = await Repository.open(new LocalBackend(disk.repository), password, { threads });
  try {
    const tree = await repository.browse(await repository.snapshot(disk.snapshot));
    const node = await tree.file(disk.path);
    const [file] = await repository.openFiles([node]);
    if (file === undefined) throw new Error(`${disk.path} is not in the snapshot`);
    const ids = new Set<string>();
    for (let index = 0; index < file.blobCount; index++) {
      const { id, zero } = file.blob(index);
      if (!zero) ids.add(id);
    }
    const waiting = [...ids];
    let bytes = 0;
    const start = performance.now();
    const readSome = async (): Promise<void> => {
      for (let id = waiting.pop(); id !== undefined; id = waiting.pop())
        bytes += (await repository.readBlob(id)).length;
    };
    await Promise.all(Array.from({ length: 2 * threads }, readSome));
    return bytes / 2 ** 20 / ((performance.now() - start) / 1000);
  } finally {
    await repository.close();
  }
}
