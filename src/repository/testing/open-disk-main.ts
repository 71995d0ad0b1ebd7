import { readFile, writeFile } from "node:fs/promises";

/**
 * A process of its own, so that what it needs can be measured: opens the disk of a snapshot of `writeBigSnapshot`, and says on standard
 * output, as JSON, what that took. Arguments: the repository's directory, its password, the snapshot, where `Repository` and
 * `LocalBackend` lie (URLs: the sources, or what is built of them), and the options of `Repository.open` as JSON; then any modules
 * that are to be in memory as well.
 */
const [directory = "", password = "", snapshot = "", repositoryUrl = "", backendUrl = "", options = "{}", ...others] =
  process.argv.slice(2);

const { Repository } = (await import(repositoryUrl)) as typeof import("../repository.ts");
const { LocalBackend } = (await import(backendUrl)) as typeof import("../backends/local.ts");
for (const other of others) await import(other);

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

const repository = await Repository.open(new LocalBackend(directory), password, JSON.parse(options));
const found = await repository.snapshot(snapshot);
let longestTurn = 0;
let last = threadTime();
const watch = setInterval(() => {
  longestTurn = Math.max(longestTurn, threadTime() - last);
  last = threadTime();
}, 0);
// "5" resets the peak (proc_pid_clear_refs(5)).
await writeFile("/proc/self/clear_refs", "5");
const beforeMiB = await residentMiB("VmRSS");
const begun = performance.now();
const tree = await repository.browse(found);
const [file] = await repository.openFiles([await tree.file("/disk")]);
const seconds = (performance.now() - begun) / 1000;
const peakMiB = await residentMiB("VmHWM");
const afterMiB = await residentMiB("VmRSS");
clearInterval(watch);
await repository.close();
process.stdout.write(
  JSON.stringify({
    blobs: file?.blobCount,
    seconds,
    beforeMiB,
    peakMiB,
    afterMiB,
    usedMiB: peakMiB - beforeMiB,
    longestTurn: Math.round(longestTurn),
  }),
);
