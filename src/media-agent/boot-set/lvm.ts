import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { type LvmSection, type LvmValue, parseLvmText } from "./lvm-text.ts";
import { pieceBudget, type Segment, segmentedVolume } from "./segmented-volume.ts";

const SECTOR = 512;
const LABEL_SECTORS = 4;
const AREA_MAGIC = " LVM2 x[5A%r0N*>";
const AREA_HEADER = 512;
const TEXT_LIMIT = 1024 * 1024;
const VOLUMES = 64;
const SEGMENTS = 4096;
const STRIPES = 64;

/** A physical volume of LVM2, as far as it tells what lies on it. */
export interface LvmContent {
  /** Its label and metadata. */
  readonly metadata: readonly Extent[];
  /** Logical volumes that begin on it; what lies on other physical volumes cannot be read. */
  readonly volumes: readonly Volume[];
}

/**
 * Reads LVM2's label and text metadata. Linear and striped logical volumes are found, and by their parts those of mirrors; not thin
 * ones, caches and snapshots. Undefined where the volume is no physical volume of LVM2.
 *
 * Follows the format as lvm2's sources lay it down (lib/format_text/layout.h, lib/label/label.h).
 */
export async function readLvm(volume: Volume): Promise<LvmContent | undefined> {
  const label = await findLabel(volume);
  if (label === undefined) return undefined;
  const metadata: Extent[] = [{ offset: 0, length: LABEL_SECTORS * SECTOR }];
  for (const area of label.areas) {
    const found = await readArea(volume, area);
    if (found === undefined) continue;
    metadata.push({ offset: area.offset, length: AREA_HEADER }, ...found.extents);
    const group = parseLvmText(found.text);
    if (group !== undefined) return { metadata, volumes: logicalVolumes(volume, group, label.id) };
  }
  return { metadata, volumes: [] };
}

/** The label: in one of the first four sectors, "LABELONE", and where the header is; the header: id, size, data and metadata areas. */
async function findLabel(volume: Volume): Promise<{ id: string; areas: Extent[] } | undefined> {
  const head = await volume.read(0, LABEL_SECTORS * SECTOR);
  if (head === undefined) return undefined;
  for (let at = 0; at < head.length; at += SECTOR) {
    const isLabel =
      head.toString("latin1", at, at + 8) === "LABELONE" && head.toString("latin1", at + 24, at + 32) === "LVM2 001";
    if (!isLabel) continue;
    const sector = head.subarray(at, at + SECTOR);
    const header = sector.readUInt32LE(20);
    if (header < 32 || header + 40 > SECTOR) continue;
    // Two lists of offset and size, each ended by zeros: where the data is, then where the metadata is.
    const lists: Extent[][] = [[], []];
    let list = 0;
    for (let entry = header + 40; entry + 16 <= SECTOR && list < 2; entry += 16) {
      const offset = Number(sector.readBigUInt64LE(entry));
      const length = Number(sector.readBigUInt64LE(entry + 8));
      if (offset === 0) list++;
      else lists[list]?.push({ offset, length });
    }
    return { id: sector.toString("latin1", header, header + 32), areas: lists[1] ?? [] };
  }
  return undefined;
}

/** The current text of a metadata area, which is a ring behind its header. */
async function readArea(volume: Volume, area: Extent): Promise<{ text: string; extents: Extent[] } | undefined> {
  const header = await volume.read(area.offset, AREA_HEADER);
  if (header === undefined || header.toString("latin1", 4, 20) !== AREA_MAGIC) return undefined;
  const offset = Number(header.readBigUInt64LE(40));
  const length = Number(header.readBigUInt64LE(48));
  if (offset < AREA_HEADER || length === 0 || length > TEXT_LIMIT || offset >= area.length) return undefined;
  const first = Math.min(length, area.length - offset);
  const extents = [{ offset: area.offset + offset, length: first }];
  if (first < length) extents.push({ offset: area.offset + AREA_HEADER, length: length - first });
  const pieces: Buffer[] = [];
  for (const extent of extents) {
    const piece = await volume.read(extent.offset, extent.length);
    if (piece === undefined) return undefined;
    pieces.push(piece);
  }
  // What C ends by a zero.
  const [text = ""] = Buffer.concat(pieces).toString("utf8").split("\0", 1);
  return { text, extents };
}

function logicalVolumes(volume: Volume, text: LvmSection, id: string): Volume[] {
  const found: Volume[] = [];
  const budget = pieceBudget();
  for (const group of text.values()) {
    if (!isSection(group)) continue;
    const extentBytes = numberOf(group, "extent_size") * SECTOR;
    const own = [...sections(group, "physical_volumes")].find(
      ([, physical]) => textOf(physical, "id").replaceAll("-", "") === id,
    );
    if (own === undefined || !(extentBytes > 0)) continue;
    const [name, physical] = own;
    const start = numberOf(physical, "pe_start") * SECTOR;
    for (const [, logical] of sections(group, "logical_volumes")) {
      const segments = segmentsOf(logical, name, start, extentBytes);
      const [first] = segments;
      if (first?.offset !== 0 || first.stripes[0] === undefined || found.length === VOLUMES) continue;
      found.push(segmentedVolume(volume, segments, budget));
    }
  }
  return found;
}

/** The segments of a logical volume by their offsets; none where they make no sense. */
function segmentsOf(logical: LvmSection, own: string, start: number, extentBytes: number): Segment[] {
  const segments: Segment[] = [];
  for (const [key, segment] of logical) {
    if (!/^segment\d+$/.test(key) || !isSection(segment) || textOf(segment, "type") !== "striped") continue;
    const list = segment.get("stripes");
    const stripes: (number | undefined)[] = [];
    for (let index = 0; Array.isArray(list) && index + 1 < list.length && stripes.length < STRIPES; index += 2) {
      const first = Number(list[index + 1]);
      stripes.push(list[index] === own && first >= 0 ? start + first * extentBytes : undefined);
    }
    const offset = numberOf(segment, "start_extent") * extentBytes;
    const length = numberOf(segment, "extent_count") * extentBytes;
    const stripeBytes = stripes.length === 1 ? length : numberOf(segment, "stripe_size") * SECTOR;
    const isSound = Number.isSafeInteger(offset + length) && offset >= 0 && length > 0 && stripeBytes > 0;
    if (!isSound || stripes.length === 0 || segments.length === SEGMENTS) return [];
    segments.push({ offset, length, stripes, stripeBytes });
  }
  return segments.sort((a, b) => a.offset - b.offset);
}

function isSection(value: LvmValue | undefined): value is LvmSection {
  return value instanceof Map;
}

function* sections(parent: LvmSection, name: string): Generator<[string, LvmSection]> {
  const section = parent.get(name);
  if (!isSection(section)) return;
  for (const [key, value] of section) if (isSection(value)) yield [key, value];
}

function numberOf(section: LvmSection, key: string): number {
  const value = section.get(key);
  return typeof value === "number" && Number.isSafeInteger(value) ? value : Number.NaN;
}

function textOf(section: LvmSection, key: string): string {
  const value = section.get(key);
  return typeof value === "string" ? value : "";
}
