import { DiskError } from "../errors.ts";
import { corrupt, type ImageFile, type ReadRequest } from "./image-file.ts";
import type { OpenContext } from "./open-context.ts";
import { type Segment, SegmentList } from "./segments.ts";
import type { VirtualImage } from "./virtual-image.ts";
import { parseVmdkDescriptor, type VmdkDescriptor, type VmdkExtentLine } from "./vmdk-descriptor.ts";
import { readVmdkSparseHeader, VMDK_MAGIC, VmdkSparseExtent } from "./vmdk-sparse.ts";

const DESCRIPTOR_LIMIT = 1024 * 1024;
const MIB = 1024 * 1024;

/** One part of a disk: zeros, a piece of a file, or a sparse extent. */
interface Part {
  /** Of the disk, bytes. */
  readonly start: number;
  readonly length: number;
  readonly content: VmdkSparseExtent | { readonly file: ImageFile; readonly start: number } | undefined;
}

/**
 * A VMDK: one sparse or streamOptimized file, or a descriptor with its extents in the same directory.
 *
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED, IMAGE_MISMATCH, IMAGE_FILE_MISSING, and those of its parent
 */
export async function openVmdk(file: ImageFile, context: OpenContext, request: ReadRequest): Promise<VirtualImage> {
  const magic = await context.tables.bytes(file, 0, Math.min(4, file.size), "its header", request);
  if (magic.length === 4 && magic.readUInt32LE(0) === VMDK_MAGIC) {
    const header = await readVmdkSparseHeader(file, context.tables, request);
    if (header.descriptor === "") throw corrupt(file, "one extent of a disk, not its descriptor");
    const descriptor = parseVmdkDescriptor(file, header.descriptor);
    const part = { start: 0, length: header.capacity, content: new VmdkSparseExtent(file, header, context) };
    return new VmdkImage(file, [part], await openParent(file, descriptor, context, request));
  }
  if (file.size > DESCRIPTOR_LIMIT) throw corrupt(file, "no VMDK header");
  const text = await context.tables.bytes(file, 0, file.size, "its descriptor", request);
  const descriptor = parseVmdkDescriptor(file, text.toString("utf8"));
  if (descriptor.extents.length === 0) throw corrupt(file, "a descriptor without extents");
  const parts: Part[] = [];
  let start = 0;
  for (const line of descriptor.extents) {
    parts.push({ start, length: line.length, content: await openExtent(file, line, context, request) });
    start += line.length;
  }
  if (!Number.isSafeInteger(start)) throw corrupt(file, "a disk of more than 2^53 bytes");
  return new VmdkImage(file, parts, await openParent(file, descriptor, context, request));
}

async function openExtent(
  descriptor: ImageFile,
  line: VmdkExtentLine,
  context: OpenContext,
  request: ReadRequest,
): Promise<Part["content"]> {
  if (line.kind === "zero") return undefined;
  const file = await context.sibling(descriptor, line.fileName);
  if (line.kind === "sparse") {
    const header = await readVmdkSparseHeader(file, context.tables, request);
    if (header.capacity < line.length) throw corrupt(file, "it is smaller than its descriptor says");
    return new VmdkSparseExtent(file, header, context);
  }
  if (line.start + line.length > file.size) throw corrupt(file, "it is smaller than its descriptor says");
  return { file, start: line.start };
}

async function openParent(
  file: ImageFile,
  { parent }: VmdkDescriptor,
  context: OpenContext,
  request: ReadRequest,
): Promise<VirtualImage | undefined> {
  if (parent === undefined) return undefined;
  const sibling = await context.sibling(file, parent.fileName);
  if ((await contentId(sibling, context, request)) !== parent.contentId) {
    throw new DiskError("IMAGE_MISMATCH", `${sibling.path} has changed since ${file.path} was made from it`, {
      hint: "Back up both in one snapshot, as they belong together.",
    });
  }
  return context.parent(file, parent.fileName, "vmdk");
}

/** The CID in a disk's descriptor. */
async function contentId(file: ImageFile, context: OpenContext, request: ReadRequest): Promise<string> {
  const magic = await context.tables.bytes(file, 0, Math.min(4, file.size), "its header", request);
  if (magic.length === 4 && magic.readUInt32LE(0) === VMDK_MAGIC) {
    return parseVmdkDescriptor(file, (await readVmdkSparseHeader(file, context.tables, request)).descriptor).contentId;
  }
  const text = await context.tables.bytes(file, 0, Math.min(file.size, DESCRIPTOR_LIMIT), "its descriptor", request);
  return parseVmdkDescriptor(file, text.toString("utf8")).contentId;
}

class VmdkImage implements VirtualImage {
  readonly format = "vmdk";
  readonly size: number;
  readonly unit: number;
  readonly files: readonly ImageFile[];
  readonly #parts: readonly Part[];
  readonly #parent: VirtualImage | undefined;

  constructor(file: ImageFile, parts: readonly Part[], parent: VirtualImage | undefined) {
    this.#parts = parts;
    this.#parent = parent;
    const last = parts.at(-1);
    this.size = last === undefined ? 0 : last.start + last.length;
    const own = parts.map(({ content }) => (content instanceof VmdkSparseExtent ? content.header.grain : MIB));
    this.unit = Math.min(...own, parent?.unit ?? MIB);
    const extents = parts.flatMap(({ content }) => (content === undefined ? [] : [content.file]));
    this.files = [...new Set([file, ...extents, ...(parent?.files ?? [])])];
  }

  async map(offset: number, length: number, request: ReadRequest): Promise<Segment[]> {
    const list = new SegmentList();
    const end = offset + length;
    for (let index = this.#partAt(offset); index < this.#parts.length; index++) {
      const part = this.#parts[index];
      if (part === undefined || part.start >= end) break;
      const from = Math.max(offset, part.start);
      const piece = Math.min(end, part.start + part.length) - from;
      if (piece <= 0) continue;
      const within = from - part.start;
      if (part.content === undefined) list.zero(piece);
      else if (part.content instanceof VmdkSparseExtent) {
        await part.content.map(within, piece, list, { image: this.#parent, start: part.start }, request);
      } else list.data(part.content.file, part.content.start + within, piece);
    }
    return list.segments;
  }

  /** The last part that begins at or before the offset. */
  #partAt(offset: number): number {
    let low = 0;
    let high = this.#parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#parts[middle]?.start ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
