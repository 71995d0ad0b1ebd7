import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bootUntilPage } from "./boot.ts";
import { benchBootBytes } from "./boot-bytes.ts";
import { bootTrace, traceSize } from "./boot-trace.ts";
import { takeCommands } from "./commands.ts";
import { benchDecode } from "./decode.ts";
import { benchGuestWrites } from "./guest-writes.ts";
import { benchIncrementals } from "./incrementals.ts";
import { benchIndexLoad } from "./index-load.ts";
import { benchMachines } from "./machines.ts";
import { benchNbd } from "./nbd.ts";
import { benchNfs } from "./nfs.ts";
import { benchOperator } from "./operator.ts";
import { benchReadsDuringRelocation } from "./reads-during-relocation.ts";
import { benchRelocation } from "./relocation.ts";
import { replayTrace } from "./replay.ts";
import { benchResources } from "./resources.ts";
import { benchTimeToUsable } from "./time-to-usable.ts";
import { prepareNoise, prepareRepeatedNoise, prepareWorkplace } from "./workplace.ts";

/**
 * `make bench`: speed, with the peers beside, in one run. `BENCH_FLAGS="--only usable,replay --rounds 5"` chooses. Root, for
 * NFS-Ganesha; FUSE, for `restic mount`.
 */
const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    /** Of the link to the repository; several, with commas between, where a section takes them. */
    "delay-ms": { type: "string", default: "5" },
    "megabytes-per-second": { type: "string", default: "50" },
    /** In the made-up repository whose index is loaded. */
    "index-blobs": { type: "string", default: "20000000" },
  },
});
const root = join(import.meta.dirname, "../..");
const place = join(root, ".cache/bench");
const cliEntry = join(root, "dist/cli/main.js");
const rounds = Number(values.rounds);
const bytesPerSecond = Number(values["megabytes-per-second"]) * 1e6;
const delays = values["delay-ms"].split(",").map(Number);

async function decode(): Promise<string> {
  const [noise, guest] = [await prepareNoise(place), await prepareWorkplace(root, place)];
  const disks = [
    { ...noise, name: "bytes that do not compress" },
    { ...guest, name: "a Debian guest's disk", path: "/disks/root.img" },
  ];
  return benchDecode(disks, rounds);
}

async function replay(): Promise<string> {
  const workplace = await prepareWorkplace(root, place);
  const trace = await bootTrace(workplace);
  const { reads, bytes, chunked } = traceSize(trace);
  const mib = (count: number): string => `${(count / 2 ** 20).toFixed(1)} MiB`;
  const tables = [`The boot reads ${mib(bytes)} in ${reads} requests; in chunks of 4 MiB that is ${mib(chunked)}.`];
  for (const delayMs of delays) {
    const what = "a recorded boot's reads, replayed in order without time to think";
    const options = { workplace, rounds, delayMs, bytesPerSecond, what };
    const replayed = await benchTimeToUsable({
      ...options,
      use: (drive, onReady) => replayTrace(drive, trace, onReady),
    });
    tables.push(replayed);
  }
  return tables.join("\n\n");
}

async function usable(): Promise<string> {
  const workplace = await prepareWorkplace(root, place);
  const tables: string[] = [];
  for (const delayMs of delays) {
    const what = "a Debian guest boots under emulation";
    const options = { workplace, rounds, delayMs, bytesPerSecond, what };
    tables.push(await benchTimeToUsable({ ...options, use: ({ drive }, onReady) => bootUntilPage(drive, onReady) }));
  }
  return tables.join("\n\n");
}

async function machines(): Promise<string> {
  const workplace = await prepareWorkplace(root, place);
  const trace = await bootTrace(workplace);
  const tables: string[] = [];
  for (const delayMs of delays) tables.push(await benchMachines({ workplace, trace, rounds, delayMs, bytesPerSecond }));
  return tables.join("\n\n");
}

async function bytes(): Promise<string> {
  const workplace = await prepareWorkplace(root, place);
  const links = delays.map((delayMs) => ({ delayMs, bytesPerSecond }));
  return benchBootBytes(workplace, await bootTrace(workplace), links, rounds);
}

async function reads(): Promise<string> {
  const noise = await prepareNoise(place);
  const workplace = { ...noise, diskBytes: noise.bytes, image: noise.path.slice(1), cliEntry };
  const tables: string[] = [];
  for (const delayMs of delays)
    tables.push(await benchReadsDuringRelocation({ workplace, rounds, delayMs, bytesPerSecond }));
  return tables.join("\n\n");
}

const sections: Record<string, () => Promise<string>> = {
  nbd: async () => benchNbd(await prepareNoise(place), rounds),
  nfs: async () => benchNfs(await prepareNoise(place), cliEntry, rounds),
  writes: async () => benchGuestWrites(await prepareNoise(place), cliEntry, rounds),
  reads,
  relocation: async () => benchRelocation(await prepareRepeatedNoise(place), cliEntry, rounds),
  decode,
  incrementals: () => {
    const links = delays.map((delayMs) => ({ delayMs, bytesPerSecond }));
    return benchIncrementals(place, links, rounds);
  },
  index: async () => benchIndexLoad(place, join(root, "dist"), Number(values["index-blobs"])),
  resources: async () => {
    const workplace = await prepareWorkplace(root, place);
    return benchResources(workplace, await bootTrace(workplace));
  },
  operator: benchOperator,
  bytes,
  machines,
  replay,
  usable,
};
const only = values.only?.split(",");
for (const name of only ?? [])
  if (!(name in sections)) throw new Error(`--only knows ${Object.keys(sections).join(", ")}`);
process.stdout.write(
  `${new Date().toISOString()}  ${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}\n`,
);
for (const [name, section] of Object.entries(sections)) {
  if (only !== undefined && !only.includes(name)) continue;
  process.stdout.write(`\n${await section()}\n\n`);
  for (const command of takeCommands()) process.stdout.write(`    ${command}\n`);
}
