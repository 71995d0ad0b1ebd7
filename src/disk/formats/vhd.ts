import { DiskError } from "../errors.ts";
import { bitRuns } from "./bit-runs.ts";
import { corrupt, type ImageFile, type ReadRequest } from "./image-file.ts";
import { openNamedParent } from "./named-parent.ts";
import type { OpenContext } from "./open-context.ts";
import { type Segment, SegmentList } from "./segments.ts";
import type { Tables } from "./tables.ts";
import { readVhdDynamicHeader, readVhdFooter, type VhdDynamicHeader, type VhdFooter } from "./vhd-header.ts";
import { flatImage, mapParent, type VirtualImage } from "./virtual-image.ts";

const SECTOR = 512;
const UNUSED = 0xffffffff;

/**
 * A VHD: fixed, dynamic or differencing.
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, IMAGE_MISMATCH, and those of its parent
 */
export async function openVhd(file: ImageFile, context: OpenContext, request: ReadRequest): Promise<VirtualImage> {
  const footer = await readVhdFooter(file, context.tables, request);
  if (footer.kind === "fixed") {
    if (footer.size + SECTOR > file.size) {
      throw corrupt(file, `the disk has ${footer.size} bytes, the file only ${file.size}`);
    }
    return flatImage("vhd", file, 0, footer.size);
  }
  const header = await readVhdDynamicHeader(file, footer, context.tables, request);
  if (footer.kind === "dynamic") return new VhdImage(file, footer, header, context.tables, undefined);
  const parent = await openParent(file, header, context, request);
  return new VhdImage(file, footer, header, context.tables, parent);
}

/** The parent is known by its id: a file of the right name that is another disk is refused. */
async function openParent(
  file: ImageFile,
  header: VhdDynamicHeader,
  context: OpenContext,
  request: ReadRequest,
): Promise<VirtualImage> {
  const check = async (sibling: ImageFile): Promise<void> => {
    if ((await readVhdFooter(sibling, context.tables, request)).id === header.parentId) return;
    throw new DiskError("IMAGE_MISMATCH", `${sibling.path} is not the disk that ${file.path} was made from`, {
      hint: "Back up the parent that belongs to it, in the same snapshot.",
    });
  };
  return openNamedParent(file, { format: "vhd", names: header.parentNames, check }, context);
}

class VhdImage implements VirtualImage {
  readonly format = "vhd";
  readonly size: number;
  readonly unit: number;
  readonly files: readonly ImageFile[];
  readonly #file: ImageFile;
  readonly #header: VhdDynamicHeader;
  readonly #tables: Tables;
  readonly #parent: VirtualImage | undefined;
  readonly #bitmapBytes: number;

  constructor(
    file: ImageFile,
    footer: VhdFooter,
    header: VhdDynamicHeader,
    tables: Tables,
    parent: VirtualImage | undefined,
  ) {
    this.#file = file;
    this.#header = header;
    this.#tables = tables;
    this.#parent = parent;
    this.#bitmapBytes = Math.ceil(header.blockSize / SECTOR / 8 / SECTOR) * SECTOR;
    this.size = footer.size;
    this.unit = parent === undefined ? header.blockSize : SECTOR;
    this.files = [file, ...(parent?.files ?? [])];
  }

  async map(offset: number, length: number, request: ReadRequest): Promise<Segment[]> {
    const list = new SegmentList();
    const { blockSize } = this.#header;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const stop = Math.min(end, (block + 1) * blockSize);
      const place = await this.#place(block, request);
      if (place === undefined) await mapParent(this.#parent, list, at, stop - at, request);
      else if (this.#parent === undefined) list.wholeData(this.#file, place + (at - block * blockSize), stop - at);
      else await this.#mapSectors(place, at, stop, list, request);
      at = stop;
    }
    return list.segments;
  }

  /** Where the block's data begins in the file; undefined where it is not allocated. */
  async #place(block: number, request: ReadRequest): Promise<number | undefined> {
    const at = this.#header.tableOffset + block * 4;
    const sector = (await this.#tables.bytes(this.#file, at, 4, "its table", request)).readUInt32BE(0);
    return sector === UNUSED ? undefined : sector * SECTOR + this.#bitmapBytes;
  }

  /** Of an allocated block of a differencing disk, only the sectors are its own that the bitmap before it names. */
  async #mapSectors(
    place: number,
    start: number,
    stop: number,
    list: SegmentList,
    request: ReadRequest,
  ): Promise<void> {
    const blockStart = Math.floor(start / this.#header.blockSize) * this.#header.blockSize;
    const first = Math.floor((start - blockStart) / SECTOR);
    const last = Math.ceil((stop - blockStart) / SECTOR);
    const bitmap = await this.#tables.bytes(
      this.#file,
      place - this.#bitmapBytes,
      this.#bitmapBytes,
      "a block's bitmap",
      request,
    );
    let at = start;
    let sector = first;
    for (const run of bitRuns(bitmap, first, last, "highest first")) {
      sector += run.length;
      const runEnd = Math.min(stop, blockStart + sector * SECTOR);
      if (run.value) list.wholeData(this.#file, place + (at - blockStart), runEnd - at);
      else await mapParent(this.#parent, list, at, runEnd - at, request);
      at = runEnd;
    }
  }
}
