import { createHash } from "node:crypto";
import { systemClock } from "../../src/base/clock.ts";
import type { BlockSource } from "../../src/disk/block-device.ts";
import { overlayDirectory } from "../../src/disk/overlay/files.ts";
import { Overlay } from "../../src/disk/overlay/overlay.ts";
import { NfsServer } from "../../src/nfs/server.ts";

/** An overlay over a disk of a repeating pattern, served over NFS: `serve-overlay.ts DIRECTORY EXPORT_PATH SIZE`. */
const [directory = "", path = "", bytes = ""] = process.argv.slice(2);
const size = Number(bytes);
const pattern = createHash("sha256").update("pattern").digest();
const base: BlockSource = {
  size,
  async read(offset, length) {
    const shift = offset % pattern.length;
    return Buffer.alloc(length + shift, pattern).subarray(shift);
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
const server = new NfsServer({ onError: (error) => process.stderr.write(`${String(error)}\n`) });
server.addExport({
  path,
  handleKey: createHash("sha256").update("key").digest(),
  fsid: 1n,
  fileName: "disk.img",
  size,
  uid: 107,
  gid: 107,
  read: (offset, length) => overlay.read(offset, length, "guest"),
  write: (offset, data, stable) => overlay.write(offset, data, { durable: stable }),
  commit: () => overlay.flush(),
});
await server.listen("10.77.0.1", 2049);
