import { VmRestoreError } from "./errors.ts";

/** Thrown when a message or file ends before what it announced. Hostile input must never read past its end. */
export class TruncatedError extends VmRestoreError {
  constructor(wanted: number, left: number) {
    super("TRUNCATED", `wanted ${wanted} bytes where only ${left} are left`);
  }
}

/** Walks over a buffer front to back. Every read is bounds-checked and throws {@link TruncatedError}. */
export class ByteReader {
  readonly #bytes: Buffer;
  #offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  /** A view of the next `length` bytes, not a copy. */
  bytes(length: number): Buffer {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  skip(length: number): void {
    this.#advance(length);
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#advance(1));
  }

  u16be(): number {
    return this.#bytes.readUInt16BE(this.#advance(2));
  }

  u32be(): number {
    return this.#bytes.readUInt32BE(this.#advance(4));
  }

  u64be(): bigint {
    return this.#bytes.readBigUInt64BE(this.#advance(8));
  }

  u16le(): number {
    return this.#bytes.readUInt16LE(this.#advance(2));
  }

  u32le(): number {
    return this.#bytes.readUInt32LE(this.#advance(4));
  }

  u64le(): bigint {
    return this.#bytes.readBigUInt64LE(this.#advance(8));
  }

  #advance(length: number): number {
    if (length < 0 || length > this.remaining) throw new TruncatedError(length, this.remaining);
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

/** Builds a message front to back; grows as needed. Numbers are big-endian unless the name says otherwise. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(Math.max(16, capacity));
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#buffer.writeUInt8(value, at);
    return this;
  }

  u16be(value: number): this {
    const at = this.#grow(2);
    this.#buffer.writeUInt16BE(value, at);
    return this;
  }

  u32be(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeUInt32BE(value, at);
    return this;
  }

  u64be(value: bigint): this {
    const at = this.#grow(8);
    this.#buffer.writeBigUInt64BE(value, at);
    return this;
  }

  u32le(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeUInt32LE(value, at);
    return this;
  }

  u64le(value: bigint): this {
    const at = this.#grow(8);
    this.#buffer.writeBigUInt64LE(value, at);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#grow(value.length);
    this.#buffer.set(value, at);
    return this;
  }

  zeros(count: number): this {
    const start = this.#grow(count);
    this.#buffer.fill(0, start, start + count);
    return this;
  }

  /** What was written so far: a view that the next write may move away from. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Makes room and says where it is. Comes before `this.#buffer` is looked at: it may replace the buffer. */
  #grow(count: number): number {
    const start = this.#length;
    const needed = start + count;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(larger, 0, 0, start);
      this.#buffer = larger;
    }
    this.#length = needed;
    return start;
  }
}
