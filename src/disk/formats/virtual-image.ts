import type { ImageFile, ReadRequest } from "./image-file.ts";
import { type Segment, SegmentList } from "./segments.ts";

export type ImageFormat = "raw" | "qcow2" | "vmdk" | "vhd" | "vhdx";

/** A disk in one of the formats: which of its bytes lie where in which files. */
export interface VirtualImage {
  readonly format: ImageFormat;
  /** Bytes of the virtual disk. */
  readonly size: number;
  /** Bytes in which it is allocated: {@link map} looks at one entry of a table for each. */
  readonly unit: number;
  /** Every file that it is made of, its parents' included; its own comes first. */
  readonly files: readonly ImageFile[];
  /**
   * Segments that cover `[offset, offset + length)`, which is within the disk, in order. Reads tables.
   *
   * @throws DiskError IMAGE_CORRUPT; the errors of the files
   */
  map(offset: number, length: number, request: ReadRequest): Promise<Segment[]>;
}

/** What a disk holds where its own file says nothing: its parent's bytes as far as that reaches, then zeros. */
export async function mapParent(
  parent: VirtualImage | undefined,
  into: SegmentList,
  offset: number,
  length: number,
  request: ReadRequest,
): Promise<void> {
  const shared = parent === undefined ? 0 : Math.max(0, Math.min(length, parent.size - offset));
  if (parent !== undefined && shared > 0) into.append(await parent.map(offset, shared, request));
  into.zero(length - shared);
}

/** A disk whose bytes are the file's. */
export function rawImage(file: ImageFile): VirtualImage {
  return flatImage("raw", file, 0, file.size);
}

/** A disk that lies in a file as one piece. */
export function flatImage(format: ImageFormat, file: ImageFile, start: number, size: number): VirtualImage {
  return {
    format,
    size,
    unit: 1024 * 1024,
    files: [file],
    async map(offset, length) {
      const list = new SegmentList();
      list.data(file, start + offset, length);
      return list.segments;
    },
  };
}
