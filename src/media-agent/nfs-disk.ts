import { errorCode } from "../base/errors.ts";
import type { BlockDevice } from "../disk/block-device.ts";
import type { NfsExport } from "../nfs/export.ts";
import type { DiskState } from "./agent-state.ts";
import type { AnswerLimit } from "./answer-limit.ts";
import type { ExportObserver } from "./exported-disk.ts";
import type { FencedWrites } from "./fenced-writes.ts";

/** KubeVirt's launcher runs as this user and group; a file that is theirs is left as it is. */
const QEMU_ID = 107;
/** With these the agent ends. The client gets no answer, so that it asks the next agent; its guest never hears of it. */
const ENDING: ReadonlySet<string | undefined> = new Set(["OVERLAY_FAILED", "DISK_CLOSED"]);

export interface NfsDiskOptions {
  readonly name: string;
  readonly device: BlockDevice;
  readonly state: DiskState;
  readonly writes: Pick<FencedWrites, "mount" | "write">;
  readonly observer: ExportObserver;
  /** For a guest that may not be kept waiting for as long as it takes; undefined for one that may. */
  readonly limit: () => AnswerLimit | undefined;
}

/** A disk as the `disk.img` of an NFS export: what KubeVirt expects of a claim in Filesystem mode. Its reads are the guest's. */
export function nfsDisk({ name, device, state, writes, observer, limit }: NfsDiskOptions): NfsExport {
  const answer = async <T>(key: string, work: (signal?: AbortSignal) => Promise<T>): Promise<T> => {
    try {
      return await (limit()?.run(key, work) ?? work());
    } catch (error) {
      if (ENDING.has(errorCode(error))) return new Promise<never>(() => undefined);
      throw error;
    }
  };
  return {
    path: state.exportPath,
    handleKey: Buffer.from(state.handleKey, "base64url"),
    fsid: BigInt(state.fsid),
    fileName: "disk.img",
    size: device.size,
    uid: QEMU_ID,
    gid: QEMU_ID,
    mount: (machine) => writes.mount(machine),
    async read(offset, length, into) {
      const begun = performance.now();
      const reading = observer.reading(name, offset, length);
      try {
        return await answer(`read ${offset} ${length}`, () => device.read(offset, length, reading.readClass, into));
      } finally {
        reading.end((performance.now() - begun) / 1000);
      }
    },
    async write(offset, data, stable, mount) {
      const begun = performance.now();
      await answer(`write ${offset} ${data.length}`, (signal) =>
        writes.write(mount, () =>
          device.write(offset, data, { durable: stable, ...(signal === undefined ? {} : { signal }) }),
        ),
      );
      observer.written(name, data.length, (performance.now() - begun) / 1000);
    },
    commit: () => answer("commit", () => device.flush()),
  };
}
