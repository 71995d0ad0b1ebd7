import { DiskError } from "../errors.ts";
import { bitRuns } from "./bit-runs.ts";
import { NO_GUID } from "./guid.ts";
import { corrupt, type ImageFile, type ReadRequest } from "./image-file.ts";
import { openNamedParent } from "./named-parent.ts";
import type { OpenContext } from "./open-context.ts";
import { type Segment, SegmentList } from "./segments.ts";
import type { Tables } from "./tables.ts";
import { readVhdxHeader, readVhdxRegions } from "./vhdx-header.ts";
import { replayVhdxLog } from "./vhdx-log.ts";
import { readVhdxMetadata, type VhdxMetadata } from "./vhdx-metadata.ts";
import { mapParent, type VirtualImage } from "./virtual-image.ts";

const MIB = 1024 * 1024;
/** Sectors whose bits one bitmap block of 1 MiB holds. */
const SECTORS_PER_CHUNK = 2 ** 23;
const STATE = { absent: 0, undefined: 1, zero: 2, unmapped: 3, unmappedInDrafts: 5, present: 6, partial: 7 } as const;
const ZEROS: ReadonlySet<number> = new Set([STATE.undefined, STATE.zero, STATE.unmapped, STATE.unmappedInDrafts]);

/**
 * A VHDX: fixed, dynamic or differencing. A log that was not replayed is replayed in memory.
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, IMAGE_MISMATCH, and those of its parent
 */
export async function openVhdx(stored: ImageFile, context: OpenContext, request: ReadRequest): Promise<VirtualImage> {
  const header = await readVhdxHeader(stored, context.tables, request);
  const isClean = header.logId === NO_GUID;
  const file = isClean ? stored : await replayVhdxLog(stored, header, request);
  // Tables are kept by the file's path: what was read before the log was replayed must not be taken for what is there now.
  const tables = isClean ? context.tables : context.tables.fresh();
  const regions = await readVhdxRegions(file, tables, request);
  const metadata = await readVhdxMetadata(file, regions.metadata, tables, request);
  const parent = metadata.parent === undefined ? undefined : await openParent(file, metadata.parent, context, request);
  return new VhdxImage(file, regions.table, metadata, tables, parent);
}

/** The parent is known by the id of its data: a file of the right name with other data is refused. */
async function openParent(
  file: ImageFile,
  { names, dataWriteIds }: NonNullable<VhdxMetadata["parent"]>,
  context: OpenContext,
  request: ReadRequest,
): Promise<VirtualImage> {
  const check = async (sibling: ImageFile): Promise<void> => {
    if (dataWriteIds.includes((await readVhdxHeader(sibling, context.tables, request)).dataWriteId)) return;
    throw new DiskError("IMAGE_MISMATCH", `${sibling.path} has changed since ${file.path} was made from it`, {
      hint: "Back up both in one snapshot, as they belong together.",
    });
  };
  return openNamedParent(file, { format: "vhdx", names, check }, context);
}

class VhdxImage implements VirtualImage {
  readonly format = "vhdx";
  readonly size: number;
  readonly unit: number;
  readonly files: readonly ImageFile[];
  readonly #file: ImageFile;
  readonly #tableOffset: number;
  readonly #metadata: VhdxMetadata;
  readonly #tables: Tables;
  readonly #parent: VirtualImage | undefined;
  /** Blocks between two bitmap entries of the table. */
  readonly #chunk: number;

  constructor(
    file: ImageFile,
    table: { readonly offset: number; readonly length: number },
    metadata: VhdxMetadata,
    tables: Tables,
    parent: VirtualImage | undefined,
  ) {
    this.#file = file;
    this.#tableOffset = table.offset;
    this.#metadata = metadata;
    this.#tables = tables;
    this.#parent = parent;
    this.#chunk = (SECTORS_PER_CHUNK * metadata.logicalSector) / metadata.blockSize;
    this.size = metadata.size;
    this.unit = parent === undefined ? metadata.blockSize : metadata.logicalSector;
    this.files = [file, ...(parent?.files ?? [])];
    const blocks = Math.ceil(metadata.size / metadata.blockSize);
    // Only a differencing disk has a bitmap behind its last blocks too.
    const chunks = parent === undefined ? Math.floor((blocks - 1) / this.#chunk) : Math.ceil(blocks / this.#chunk);
    const entries = (parent === undefined ? blocks : chunks * this.#chunk) + chunks;
    if (entries * 8 > table.length) throw corrupt(file, "its table does not cover the disk");
  }

  async map(offset: number, length: number, request: ReadRequest): Promise<Segment[]> {
    const list = new SegmentList();
    const { blockSize } = this.#metadata;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / blockSize);
      const stop = Math.min(end, (block + 1) * blockSize);
      const { state, place } = await this.#entry(block + Math.floor(block / this.#chunk), request);
      if (state === STATE.present) list.wholeData(this.#file, place + (at - block * blockSize), stop - at);
      else if (state === STATE.absent) await mapParent(this.#parent, list, at, stop - at, request);
      else if (ZEROS.has(state)) list.zero(stop - at);
      else if (state === STATE.partial && this.#parent !== undefined)
        await this.#mapSectors(block, place, at, stop, list, request);
      else throw corrupt(this.#file, `block ${block} has the state ${state}`);
      at = stop;
    }
    return list.segments;
  }

  /** An entry of the block allocation table ([MS-VHDX] 2.5.1), and where it points to in the file. */
  async #entry(index: number, request: ReadRequest): Promise<{ state: number; place: number }> {
    const bytes = await this.#tables.bytes(this.#file, this.#tableOffset + index * 8, 8, "its table", request);
    const low = bytes.readUInt32LE(0);
    return { state: low & 7, place: (bytes.readUInt32LE(4) * 2 ** 12 + (low >>> 20)) * MIB };
  }

  /** Of a block that is present in part, only the sectors are its own that the chunk's bitmap names. */
  async #mapSectors(
    block: number,
    place: number,
    start: number,
    stop: number,
    list: SegmentList,
    request: ReadRequest,
  ): Promise<void> {
    const { blockSize, logicalSector } = this.#metadata;
    const chunk = Math.floor(block / this.#chunk);
    const bitmap = await this.#entry(chunk * (this.#chunk + 1) + this.#chunk, request);
    if (bitmap.state !== STATE.present) throw corrupt(this.#file, `the bitmap of block ${block} is missing`);
    const blockStart = block * blockSize;
    const chunkStart = chunk * this.#chunk * blockSize;
    const first = Math.floor((start - chunkStart) / logicalSector);
    const last = Math.ceil((stop - chunkStart) / logicalSector);
    const byte = Math.floor(first / 8);
    const length = Math.ceil(last / 8) - byte;
    const bits = await this.#tables.bytes(this.#file, bitmap.place + byte, length, "a bitmap", request);
    let at = start;
    let sector = first;
    for (const run of bitRuns(bits, first - byte * 8, last - byte * 8, "lowest first")) {
      sector += run.length;
      const runEnd = Math.min(stop, chunkStart + sector * logicalSector);
      if (run.value) list.wholeData(this.#file, place + (at - blockStart), runEnd - at);
      else await mapParent(this.#parent, list, at, runEnd - at, request);
      at = runEnd;
    }
  }
}
