import { DiskError } from "../errors.ts";
import { detectFormat } from "./detect.ts";
import { corrupt, type FindFile, type ImageFile, type ReadRequest } from "./image-file.ts";
import { findSibling, type OpenContext } from "./open-context.ts";
import { openQcow2 } from "./qcow2.ts";
import { Tables } from "./tables.ts";
import { openVhd } from "./vhd.ts";
import { openVhdx } from "./vhdx.ts";
import { type ImageFormat, rawImage, type VirtualImage } from "./virtual-image.ts";
import { openVmdk } from "./vmdk.ts";

/** Images of which each is a delta to the next. */
const CHAIN_LIMIT = 64;

const OPENERS: Readonly<
  Record<ImageFormat, (file: ImageFile, context: OpenContext, request: ReadRequest) => Promise<VirtualImage>>
> = {
  raw: async (file) => rawImage(file),
  qcow2: openQcow2,
  vmdk: openVmdk,
  vhd: openVhd,
  vhdx: openVhdx,
};

/**
 * Opens the disk that a file of a snapshot holds, with every other file that it needs. Reads headers only.
 *
 * @param format `auto` to recognise it, safely: see {@link detectFormat}. Such an image may consist of one file only
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, IMAGE_AMBIGUOUS, IMAGE_FILE_MISSING, IMAGE_MISMATCH
 */
export function openImage(
  file: ImageFile,
  format: ImageFormat | "auto",
  find: FindFile,
  request: ReadRequest,
): Promise<VirtualImage> {
  return openLink(file, format, { find, tables: new Tables(), above: [] }, request);
}

interface Chain {
  readonly find: FindFile;
  readonly tables: Tables;
  /** Paths of the images that led here. */
  readonly above: readonly string[];
}

async function openLink(
  file: ImageFile,
  format: ImageFormat | "auto",
  { find, tables, above }: Chain,
  request: ReadRequest,
): Promise<VirtualImage> {
  if (above.includes(file.path)) throw corrupt(file, "it is its own parent");
  if (above.length === CHAIN_LIMIT) throw corrupt(file, `a chain of more than ${CHAIN_LIMIT} images leads here`);
  const known = format === "auto" ? await detectFormat(file, request) : format;
  const sibling = (from: ImageFile, name: string): Promise<ImageFile> => {
    if (format !== "auto") return findSibling(find, from, name);
    throw new DiskError("IMAGE_AMBIGUOUS", `${file.path} is a ${known} image that needs another file`, {
      hint: `Say in spec.source.disks[].format that it is one, if whoever made the backup did: a guest could have written it.`,
    });
  };
  const chain: Chain = { find, tables, above: [...above, file.path] };
  const context: OpenContext = {
    tables,
    sibling: async (from, name) => sibling(from, name),
    parent: async (from, name, parentFormat) => openLink(await sibling(from, name), parentFormat, chain, request),
  };
  return OPENERS[known](file, context, request);
}
