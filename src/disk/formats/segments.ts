import { corrupt, type ImageFile, type ReadRequest } from "./image-file.ts";

/** Bytes of a disk that are known to be zero. */
interface ZeroSegment {
  readonly kind: "zero";
  readonly length: number;
}

/** Bytes of a disk that lie in a file as they are. */
interface DataSegment {
  readonly kind: "data";
  readonly length: number;
  readonly file: ImageFile;
  /** In the file. */
  readonly offset: number;
}

/** Bytes of a disk that lie in a file compressed. */
export interface CompressedSegment {
  readonly kind: "compressed";
  readonly length: number;
  readonly file: ImageFile;
  /** Where the compressed cluster begins in the file. */
  readonly offset: number;
  /** Bytes in the file that it takes at most. */
  readonly stored: number;
  /** Where the segment begins in the cluster once it is unpacked. */
  readonly from: number;
  /** The whole cluster; at least `from + length` bytes. */
  readonly unpack: (request: ReadRequest) => Promise<Buffer>;
}

export type Segment = ZeroSegment | DataSegment | CompressedSegment;

/** Where a run of bytes of a disk is, in order. Neighbours of one kind become one. */
export class SegmentList {
  readonly segments: Segment[] = [];

  zero(length: number): void {
    if (length === 0) return;
    const last = this.segments.at(-1);
    if (last?.kind === "zero") this.segments[this.segments.length - 1] = { kind: "zero", length: last.length + length };
    else this.segments.push({ kind: "zero", length });
  }

  /**
   * Bytes of a file. A cluster may be the file's last and cut short, as writers leave it that never wrote its end: that is zeros.
   * One that begins beyond the end has lost its data.
   *
   * @throws DiskError IMAGE_CORRUPT
   */
  data(file: ImageFile, offset: number, length: number): void {
    if (length === 0) return;
    const there = Math.min(length, file.size - offset);
    if (!(there > 0)) throw corrupt(file, `data is said to lie at ${offset}, beyond the file's ${file.size} bytes`);
    const last = this.segments.at(-1);
    if (last?.kind === "data" && last.file === file && last.offset + last.length === offset) {
      this.segments[this.segments.length - 1] = { ...last, length: last.length + there };
    } else this.segments.push({ kind: "data", length: there, file, offset });
    this.zero(length - there);
  }

  /**
   * As {@link data}, of a format whose writers make room for a whole block at once: where its end is missing, the file was cut off.
   *
   * @throws DiskError IMAGE_CORRUPT
   */
  wholeData(file: ImageFile, offset: number, length: number): void {
    if (offset + length > file.size) {
      throw corrupt(file, `data is said to lie up to ${offset + length}, beyond the file's ${file.size} bytes`);
    }
    this.data(file, offset, length);
  }

  compressed(segment: Omit<CompressedSegment, "kind">): void {
    if (segment.length > 0) this.segments.push({ kind: "compressed", ...segment });
  }

  append(segments: readonly Segment[]): void {
    for (const segment of segments) {
      if (segment.kind === "zero") this.zero(segment.length);
      else if (segment.kind === "data") this.data(segment.file, segment.offset, segment.length);
      else this.segments.push(segment);
    }
  }
}
