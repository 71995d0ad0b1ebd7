const VARINT = 0;
const LENGTH_DELIMITED = 2;

/** Writes protocol buffer messages (encoding of proto3), field by field. Absent and default values are left out. */
export class ProtobufWriter {
  readonly #chunks: Buffer[] = [];

  bool(field: number, value: boolean): this {
    if (value) this.#chunks.push(tag(field, VARINT), varint(1));
    return this;
  }

  text(field: number, value: string | undefined): this {
    return value === undefined || value === "" ? this : this.bytes(field, Buffer.from(value));
  }

  /** A message may be empty and still be there. */
  message(field: number, value: ProtobufWriter): this {
    return this.bytes(field, value.finish());
  }

  bytes(field: number, value: Buffer): this {
    this.#chunks.push(tag(field, LENGTH_DELIMITED), varint(value.length), value);
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

function tag(field: number, wireType: number): Buffer {
  return varint(field * 8 + wireType);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  while (left >= 0x80) {
    bytes.push((left % 0x80) | 0x80);
    left = Math.floor(left / 0x80);
  }
  bytes.push(left);
  return Buffer.from(bytes);
}
