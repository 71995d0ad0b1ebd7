import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/base/clock.ts";
import { readIfThere, replaceFile } from "../../src/base/durable-file.ts";
import type { BlockSource } from "../../src/disk/block-device.ts";
import { overlayDirectory } from "../../src/disk/overlay/files.ts";
import { Overlay } from "../../src/disk/overlay/overlay.ts";
import { FencedWrites } from "../../src/media-agent/fenced-writes.ts";
import { NO_MOUNTS, writerFence } from "../../src/media-agent/writer-fence.ts";
import { NfsServer } from "../../src/nfs/server.ts";

/** Makes the server slow. Milliseconds. */
export interface Slowness {
  /** A write waits up to so long before it is applied: every `writeOf`th one; a read likewise. */
  readonly write?: number;
  readonly writeOf?: number;
  readonly read?: number;
  readonly readOf?: number;
  /** After which a read that still waits is put off. */
  readonly patience?: number;
}

/**
 * An overlay over an image in a file, served over NFS: `serve-overlay.ts DIRECTORY EXPORT_PATH IMAGE [SLOWNESS]`. Says on the
 * console how often calls came twice and how many reads were put off.
 */
const [directory = "", path = "", file = "", slow = "{}"] = process.argv.slice(2);
const slowness = JSON.parse(slow) as Slowness;
const image = await open(file);
const { size } = await image.stat();
const base: BlockSource = {
  size,
  async read(offset, length) {
    const { buffer } = await image.read(Buffer.alloc(length), 0, length, offset);
    return buffer;
  },
  extents: (offset, length) => [{ offset, length, zero: false }],
};
const overlay = await Overlay.open({
  directory: overlayDirectory(directory),
  disk: "root",
  base,
  epoch: 1,
  clock: systemClock,
});
const server = new NfsServer({
  identity: path,
  onError: (error) => process.stderr.write(`${String(error)}\n`),
  ...(slowness.patience === undefined ? {} : { patienceMs: slowness.patience }),
});
const slowly = (most = 0, of = 1): (() => Promise<void>) => {
  let calls = 0;
  return async () => {
    if (most > 0 && calls++ % of === 0) await delay(Math.random() * most);
  };
};
const waitToRead = slowly(slowness.read, slowness.readOf);
const waitToWrite = slowly(slowness.write, slowness.writeOf);
const fenceFile = join(directory, "fence.json");
const writes = new FencedWrites({
  fence: writerFence.parse(JSON.parse((await readIfThere(fenceFile)) ?? JSON.stringify(NO_MOUNTS))),
  save: (fence) => replaceFile(fenceFile, JSON.stringify(fence)),
  endWrites: (error) => overlay.endWrites(error),
  onRefused: (machine) => process.stdout.write(`REFUSED ${writes.refused} of ${machine}, ${writes.writer} writes\n`),
  onFailed: (error) => process.stderr.write(`${String(error)}\n`),
  clock: systemClock,
  signal: new AbortController().signal,
});
server.addExport({
  path,
  handleKey: createHash("sha256").update("key").digest(),
  fsid: 1n,
  fileName: "disk.img",
  size,
  uid: 107,
  gid: 107,
  async read(offset, length) {
    await waitToRead();
    return overlay.read(offset, length, "guest");
  },
  mount: (machine) => writes.mount(machine),
  async write(offset, data, stable, mount) {
    await waitToWrite();
    await writes.write(mount, () => overlay.write(offset, data, { durable: stable }));
  },
  commit: () => overlay.flush(),
});
await server.listen("10.77.0.1", 2049);

let said = "";
setInterval(() => {
  const { putOff } = server.counters;
  const now = `DUPLICATES ${server.duplicates.hits} PUT-OFF ${putOff} CONNECTIONS ${server.openConnections}\n`;
  if (now !== said) process.stdout.write(now);
  said = now;
}, 200);
