import { readFile } from "node:fs/promises";
import { LocalBackend } from "../backends/local.ts";
import { loadIndex } from "../blob-index.ts";
import { Decoder } from "../decoder.ts";
import { IdSet } from "../id-set.ts";
import { openMasterKey } from "../key-file.ts";
import { bigIndexId } from "./big-index.ts";

/**
 * A process of its own, so that what it needs can be measured: loads a made-up index and says on standard output, as JSON, what
 * that took. Arguments: directory, password, `all` or the number of blobs to keep, and the number of blobs there are.
 */
const [directory = "", password = "", kept = "all", count = "0"] = process.argv.slice(2);

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

let longestTurn = 0;
let last = threadTime();
const watch = setInterval(() => {
  longestTurn = Math.max(longestTurn, threadTime() - last);
  last = threadTime();
}, 0);
const set = await IdSet.of([needed]);
const table =
  kept === "all"
    ? await loadIndex(backend, decoder, "all")
    : await loadIndex(backend, decoder, set.shared, { expected: set.size });
clearInterval(watch);
await decoder.close();

// Not getrusage's maximum: that begins with the size of the process that started this one.
const peakKiB = /^VmHWM:\s*(\d+) kB$/m.exec(await readFile("/proc/self/status", "utf8"))?.[1];
const peakMiB = Number(peakKiB) / 1024;
process.stdout.write(JSON.stringify({ blobs: table?.size, peakMiB, longestTurn }));
