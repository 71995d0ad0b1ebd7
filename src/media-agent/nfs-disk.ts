import type { BlockDevice } from "../disk/block-device.ts";
import type { NfsExport } from "../nfs/export.ts";
import type { DiskState } from "./agent-state.ts";
import type { ExportObserver } from "./exported-disk.ts";

/** KubeVirt's launcher runs as this user and group; a file that is theirs is left as it is. */
const QEMU_ID = 107;

/** A disk as the `disk.img` of an NFS export: what KubeVirt expects of a claim in Filesystem mode. */
export function nfsDisk(name: string, device: BlockDevice, state: DiskState, observer: ExportObserver): NfsExport {
  return {
    path: state.exportPath,
    handleKey: Buffer.from(state.handleKey, "base64url"),
    fsid: BigInt(state.fsid),
    fileName: "disk.img",
    size: device.size,
    uid: QEMU_ID,
    gid: QEMU_ID,
    async read(offset, length) {
      const begun = performance.now();
      const reading = observer.reading(name, offset, length);
      try {
        return await device.read(offset, length, reading.readClass);
      } finally {
        reading.end((performance.now() - begun) / 1000);
      }
    },
    async write(offset, data, stable) {
      const begun = performance.now();
      await device.write(offset, data, { durable: stable });
      observer.written(name, data.length, (performance.now() - begun) / 1000);
    },
    commit: () => device.flush(),
  };
}
