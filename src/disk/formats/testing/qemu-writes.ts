import fc from "fast-check";

const SECTOR = 512;
const MILLION = 1_000_000;

/** One command of qemu-io. */
export interface QemuWrite {
  readonly kind: "write" | "zeros" | "discard" | "packed";
  /** Of the disk, 0 to 1,000,000. */
  readonly place: number;
  readonly sectors: number;
  readonly pattern: number;
}

/** Writes, zeros and discards of all lengths, at all places. */
export function qemuWrites(kinds: readonly QemuWrite["kind"][]): fc.Arbitrary<QemuWrite[]> {
  const write = fc.record({
    kind: fc.constantFrom(...kinds),
    place: fc.oneof(fc.nat(30_000), fc.nat(MILLION)),
    sectors: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 1000 })),
    pattern: fc.integer({ min: 1, max: 255 }),
  });
  return fc.array(write, { minLength: 1, maxLength: 25 });
}

/**
 * The commands for a disk of so many bytes. Compressed writes come first and once a cluster: QEMU takes no others.
 *
 * @param cluster bytes; compressed writes are whole clusters
 */
export function qemuCommands(writes: readonly QemuWrite[], size: number, cluster: number): string[] {
  const packed = new Map<number, string>();
  const others: string[] = [];
  for (const { kind, place, sectors, pattern } of writes) {
    const unit = kind === "packed" ? cluster : SECTOR;
    const all = Math.floor(size / unit);
    if (all === 0) continue;
    const start = Math.min(all - 1, Math.floor((place / MILLION) * all));
    const offset = start * unit;
    const length = Math.min(sectors, all - start) * unit;
    if (kind === "packed") packed.set(offset, `write -c -P ${pattern} ${offset} ${unit}`);
    else if (kind === "zeros") others.push(`write -z ${offset} ${length}`);
    else if (kind === "discard") others.push(`discard ${offset} ${length}`);
    else others.push(`write -P ${pattern} ${offset} ${length}`);
  }
  return [...packed.values(), ...others];
}
