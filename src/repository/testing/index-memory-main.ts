import { readFile, writeFile } from "node:fs/promises";
import { LocalBackend } from "../backends/local.ts";
import { loadIndex } from "../blob-index.ts";
import type { BlobTable } from "../blob-table.ts";
import { Decoder } from "../decoder.ts";
import { IdSet } from "../id-set.ts";
import { IndexCache } from "../index-cache.ts";
import { openMasterKey } from "../key-file.ts";
import { bigIndexId } from "./big-index.ts";

/**
 * A process of its own, so that what it needs can be measured: loads a made-up index and says on standard output, as JSON, what
 * that took. Arguments: directory, password, `all` or the number of blobs to keep, the number of blobs there are, and a directory where
 * what was kept is looked for and put. Where a number is given, it goes as an agent does with a large repository: all blobs up to a
 * million, in vain; then the trees, then those it needs.
 */
const [directory = "", password = "", kept = "all", count = "0", cacheDirectory] = process.argv.slice(2);
const WHOLE = 1_000_000;

const backend = new LocalBackend(directory);
const decoder = new Decoder(await openMasterKey(backend, password), 2);
const step = Math.floor(Number(count) / Number(kept));
const needed = Buffer.alloc(kept === "all" ? 0 : 32 * Number(kept));
for (let at = 0; at < needed.length; at += 32) needed.set(bigIndexId((at / 32) * step), at);

/** CPU time of this thread, in ms: unlike the clock, it does not depend on what else the machine does. */
function threadTime(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Not getrusage's maximum: that begins with the size of the process that started this one. */
async function residentMiB(which: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile("/proc/self/status", "utf8");
  return Number(new RegExp(`^${which}:\\s*(\\d+) kB$`, "m").exec(status)?.[1]) / 1024;
}

let longestTurn = 0;
let last = threadTime();
const watch = setInterval(() => {
  longestTurn = Math.max(longestTurn, threadTime() - last);
  last = threadTime();
}, 0);
const set = await IdSet.of([needed]);
// What it took to make up the ids is let go and forgotten: "5" resets the peak (proc_pid_clear_refs(5)).
(globalThis as { gc?: () => void }).gc?.();
await writeFile("/proc/self/clear_refs", "5");
const beforeMiB = await residentMiB("VmRSS");
const cache = cacheDirectory === undefined ? undefined : new IndexCache(cacheDirectory);
const where = { kept: cache === undefined ? undefined : { cache, repository: "big" } };
const begun = performance.now();
let table: BlobTable | undefined;
if (kept === "all") table = await loadIndex(backend, decoder, "all", where);
else {
  if (Number(count) > WHOLE) await loadIndex(backend, decoder, "all", { ...where, most: WHOLE });
  await loadIndex(backend, decoder, "trees", where);
  table = await loadIndex(backend, decoder, set.shared, { ...where, expected: set.size });
}
const took = Math.round(performance.now() - begun);
await cache?.settled();
clearInterval(watch);
await decoder.close();

const peakMiB = await residentMiB("VmHWM");
process.stdout.write(JSON.stringify({ blobs: table?.size, took, beforeMiB, peakMiB, longestTurn }));
