import fc from "fast-check";
import { crc32c } from "../crc32c.ts";

/** One change to a file's bytes; places are taken modulo what there is. */
type Change =
  | { readonly kind: "byte"; readonly place: number; readonly value: number }
  | { readonly kind: "field"; readonly place: number; readonly bytes: 2 | 4 | 8; readonly value: bigint }
  | { readonly kind: "copy"; readonly place: number; readonly from: number; readonly length: number }
  | { readonly kind: "cut"; readonly length: number };

const INTERESTING = [0n, 1n, 2n, 3n, 7n, 8n, 511n, 512n, 4096n, 65_536n, 2n ** 20n, 2n ** 31n, 2n ** 32n - 1n];
const LARGE = [2n ** 40n, 2n ** 53n, 2n ** 62n + 512n, 2n ** 63n, 2n ** 64n - 512n, 2n ** 64n - 1n];

/** Changes to an image: most of them where its tables and headers are. */
export function changes(): fc.Arbitrary<Change[]> {
  const place = fc.nat(2 ** 31 - 1);
  const value = fc.oneof(fc.constantFrom(...INTERESTING, ...LARGE), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
  const change = fc.oneof(
    fc.record({ kind: fc.constant("byte" as const), place, value: fc.nat(255) }),
    fc.record({ kind: fc.constant("field" as const), place, bytes: fc.constantFrom(2, 4, 8), value }),
    fc.record({ kind: fc.constant("copy" as const), place, from: place, length: fc.nat(600) }),
    { arbitrary: fc.record({ kind: fc.constant("cut" as const), length: place }), weight: 1 },
  );
  return fc.array(change as fc.Arbitrary<Change>, { minLength: 1, maxLength: 6 });
}

/** A changed copy of an image; `spots` are the places where changes tell. */
export function damage(content: Buffer, spots: readonly number[], list: readonly Change[]): Buffer {
  let copy = Buffer.from(content);
  for (const change of list) {
    if (copy.length < 16) break;
    if (change.kind === "cut") {
      copy = copy.subarray(0, change.length % copy.length);
      continue;
    }
    const at = Math.min(spots[change.place % spots.length] ?? 0, copy.length - 8);
    if (change.kind === "byte") copy[at] = change.value;
    else if (change.kind === "copy") {
      const from = spots[change.from % spots.length] ?? 0;
      content.copy(copy, at, from, from + change.length);
    } else {
      const field = Buffer.alloc(8);
      if (change.place % 2 === 0) field.writeBigUInt64BE(change.value);
      else field.writeBigUInt64LE(change.value);
      field.copy(copy, at - (at % change.bytes), change.place % 2 === 0 ? 8 - change.bytes : 0);
    }
  }
  return copy;
}

/** Every 8-byte word that is not zero, and what is beside it: where headers and tables are, and a little data. */
export function spotsOf(content: Buffer, limit: number): number[] {
  const spots: number[] = [];
  for (let at = 0; at + 8 <= content.length && spots.length < limit; at += 4) {
    if (content.readUInt32LE(at) !== 0) spots.push(at, at + 1, at + 3);
  }
  return spots;
}

/** Makes checksums right again, so that what lies behind them is looked at too. */
export function reseal(format: string, content: Buffer): void {
  if (format === "vhd") {
    for (const [at, length, field] of [
      [0, 512, 64],
      [content.length - 512, 512, 64],
      [512, 1024, 36],
    ] as const) {
      if (at < 0 || at + length > content.length) continue;
      let sum = 0;
      content.writeUInt32BE(0, at + field);
      for (const byte of content.subarray(at, at + length)) sum += byte;
      content.writeUInt32BE(~sum >>> 0, at + field);
    }
  } else if (format === "vhdx") {
    for (const [at, length] of [
      [64, 4],
      [128, 4],
      [192, 64],
      [256, 64],
      [1024, 8],
    ] as const) {
      const bytes = content.subarray(at * 1024, (at + length) * 1024);
      if (bytes.length === length * 1024) bytes.writeUInt32LE(crc32c(bytes, 4), 4);
    }
  }
}
