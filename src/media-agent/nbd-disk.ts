import type { Extent } from "../disk/block-device.ts";
import type { Overlay } from "../disk/overlay/overlay.ts";
import type { NbdExport, NbdExtent } from "../nbd/export.ts";
import { AgentError } from "./errors.ts";
import type { DiskObserver } from "./exported-disk.ts";

const DIRTY = "qemu:dirty-bitmap:relocation";
const BIT_DIRTY = 1;
/** base:allocation: a hole that reads as zeros. */
const HOLE_AND_ZERO = 3;
/** Extents are looked up in steps, so that one request for a whole disk keeps nobody else waiting. */
const STEP = 256 * 1024 * 1024;
const EXTENTS_AT_ONCE = 8192;

/**
 * A disk as the relocation sees it: the merged image, read only, with the frozen generation as a dirty bitmap. Its reads
 * count as the relocation's.
 */
export function nbdDisk(name: string, overlay: Overlay, observer: DiskObserver): NbdExport {
  const refuse = (): Promise<never> =>
    Promise.reject(new AgentError("FORBIDDEN", `${name} cannot be written over NBD`, { hint: "Use the NFS export." }));
  return {
    name,
    description: "the merged image: backup and overlay",
    size: overlay.size,
    readOnly: true,
    async read(offset, length, into) {
      const begun = performance.now();
      const content = await overlay.read(offset, length, "relocation", into);
      observer.read(name, "relocation", length, (performance.now() - begun) / 1000);
      return content;
    },
    write: refuse,
    writeZeroes: refuse,
    trim: refuse,
    flush: () => overlay.flush(),
    metaContexts: () => [DIRTY],
    blockStatus: (context, offset, length) =>
      context === DIRTY ? dirtyStatus(overlay, offset, length) : allocationStatus(overlay, offset, length),
  };
}

function allocationStatus(overlay: Overlay, offset: number, length: number): NbdExtent[] {
  const found: { length: number; flags: number }[] = [];
  for (let at = offset; at < offset + length && found.length < EXTENTS_AT_ONCE; at += STEP) {
    for (const extent of overlay.extents(at, Math.min(STEP, offset + length - at))) {
      append(found, extent.length, extent.zero ? HOLE_AND_ZERO : 0);
    }
  }
  return found;
}

function dirtyStatus(overlay: Overlay, offset: number, length: number): NbdExtent[] {
  const found: { length: number; flags: number }[] = [];
  let at = offset;
  for (const dirty of overlay.frozenExtents(offset, length) as Iterable<Extent>) {
    append(found, dirty.offset - at, 0);
    append(found, dirty.length, BIT_DIRTY);
    at = dirty.offset + dirty.length;
    if (found.length >= EXTENTS_AT_ONCE) return found;
  }
  append(found, offset + length - at, 0);
  return found;
}

function append(found: { length: number; flags: number }[], length: number, flags: number): void {
  if (length === 0) return;
  const last = found.at(-1);
  if (last !== undefined && last.flags === flags) last.length += length;
  else found.push({ length, flags });
}
