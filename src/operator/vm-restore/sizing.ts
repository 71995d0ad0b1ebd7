import { formatQuantity, parseQuantity } from "../../api/quantity.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const DEFAULT_CACHE_MAX = 20 * GIB;
const MINIMUM_CACHE = 256 * MIB;
/** What KubeVirt takes a filesystem to need, and what the agent leaves free of its claims. */
const FILESYSTEM_OVERHEAD = 0.055;
/** Journals, bitmaps and checkpoints beside the data, those included for which the guest's data leaves room (docs/overlay.md): of eight disks. */
const OVERLAY_EXTRA = 256 * MIB;
/** The same of each further disk. */
const OVERLAY_EXTRA_EACH = 32 * MIB;
/** Below this share of the disks an overlay fills up before most relocations end. */
const OVERLAY_MINIMUM_SHARE = 0.05;

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** A claim's size with room for a filesystem and `bytes` in it. */
function withFilesystem(bytes: number): number {
  return roundUp(bytes / (1 - FILESYSTEM_OVERHEAD) + MIB, MIB);
}

export type Sized = { readonly bytes: number } | { readonly problem: string };

/** The cache claim's bytes. `dataBytes`: what the backup's disks refer to, zeros left out. */
export function cacheSize(asked: string | undefined, dataBytes: number): Sized {
  if (asked === undefined)
    return { bytes: Math.max(MINIMUM_CACHE, Math.min(DEFAULT_CACHE_MAX, withFilesystem(dataBytes))) };
  const bytes = parseQuantity(asked) ?? 0;
  if (bytes >= MINIMUM_CACHE) return { bytes };
  return {
    problem: `A read cache of ${asked} is too small. Set spec.mediaAgent.cache.size to ${formatQuantity(MINIMUM_CACHE)} at least.`,
  };
}

/** What the agent may use of a cache claim. */
export function usableCache(claimBytes: number): number {
  return Math.floor(claimBytes * (1 - FILESYSTEM_OVERHEAD) * 0.98);
}

/** The overlay claim's bytes, by those of each disk. By default nothing that the guest does can fill it. */
export function overlaySize(asked: string | undefined, disks: readonly number[]): Sized {
  const diskBytes = disks.reduce((sum, size) => sum + size, 0);
  const extra = OVERLAY_EXTRA + Math.max(0, disks.length - 8) * OVERLAY_EXTRA_EACH;
  if (asked === undefined) return { bytes: withFilesystem(diskBytes * 1.01 + extra) };
  const bytes = parseQuantity(asked) ?? 0;
  const least = withFilesystem(diskBytes * OVERLAY_MINIMUM_SHARE + extra);
  if (bytes >= least) return { bytes };
  return {
    problem: `An overlay of ${asked} is too small for disks of ${formatQuantity(diskBytes)}. Set spec.mediaAgent.overlay.size to ${formatQuantity(least)} at least.`,
  };
}

/** The target claim's bytes. KubeVirt takes a filesystem's overhead off before it compares, so that needs room on top. */
export function targetSize(asked: string | undefined, diskBytes: number, mode: "Filesystem" | "Block"): Sized {
  const least = mode === "Block" ? roundUp(diskBytes, MIB) : withFilesystem(diskBytes);
  if (asked === undefined) return { bytes: least };
  const bytes = parseQuantity(asked) ?? 0;
  if (bytes >= least) return { bytes };
  return {
    problem: `A target of ${asked} is too small for a disk of ${formatQuantity(diskBytes)}. Set its size to ${formatQuantity(least)} at least, or leave it out.`,
  };
}
