import type { AllocatedExtent, BlockSource } from "../block-device.ts";
import { DiskError } from "../errors.ts";

/** A read-only disk in memory. */
export function memorySource(content: Buffer): BlockSource {
  return {
    size: content.length,
    async read(offset, length) {
      if (offset + length > content.length) throw new DiskError("OUT_OF_RANGE", "beyond the end");
      return Buffer.from(content.subarray(offset, offset + length));
    },
    extents: (offset, length): AllocatedExtent[] => (length === 0 ? [] : [{ offset, length, zero: false }]),
  };
}
