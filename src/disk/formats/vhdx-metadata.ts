import { readGuid } from "./guid.ts";
import { corrupt, type ImageFile, quoted, type ReadRequest, unsupported } from "./image-file.ts";
import { type Tables, u64le } from "./tables.ts";
import { windowsPath } from "./vhd-header.ts";

const TABLE_BYTES = 64 * 1024;
const ENTRIES_LIMIT = 2047;
const MIB = 1024 * 1024;
const BLOCK_LIMIT = 256 * MIB;
const SIZE_LIMIT = 64 * 2 ** 40;
const LOCATOR_LIMIT = 64 * 1024;
const LOCATOR_ENTRIES_LIMIT = 64;
const VHDX_LOCATOR = "b04aefb7-d19e-4a81-b789-25b8e9445913";
const ITEM = {
  parameters: "caa16737-fa36-4d43-b3b6-33f0aa44e76b",
  size: "2fa54224-cd1b-4876-b211-5dbed83bf4b8",
  diskId: "beca12ab-b2e6-4523-93ef-c309e000c746",
  logicalSector: "8141bf1d-a96f-4709-ba47-f233a8faab5f",
  physicalSector: "cda348c7-445d-4471-9cc9-e9885251c556",
  parentLocator: "a8d35f2d-b30b-454d-abf7-d3d84834ab0c",
} as const;
const REQUIRED_FLAG = 4;
const HAS_PARENT_FLAG = 2;

/** A VHDX's metadata ([MS-VHDX] 2.6), checked. */
export interface VhdxMetadata {
  readonly blockSize: number;
  readonly size: number;
  readonly logicalSector: number;
  readonly parent:
    | {
        /** Ids of the parent's data, either of which it may bear; lower case, without braces. */
        readonly dataWriteIds: readonly string[];
        /** Its names as the image gives them, the best one first; `/` divides them. */
        readonly names: readonly string[];
      }
    | undefined;
}

interface Item {
  readonly offset: number;
  readonly length: number;
}

/**
 * @param region where the metadata lies in the file
 * @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED
 */
export async function readVhdxMetadata(
  file: ImageFile,
  region: { readonly offset: number; readonly length: number },
  tables: Tables,
  request: ReadRequest,
): Promise<VhdxMetadata> {
  const items = await readItems(file, region, tables, request);
  const read = async (id: string, length: number): Promise<Buffer> => {
    const item = items.get(id);
    if (item === undefined || item.length < length) throw corrupt(file, "a part of its metadata is missing");
    return tables.bytes(file, item.offset, item.length, "its metadata", request);
  };
  const parameters = await read(ITEM.parameters, 8);
  const blockSize = parameters.readUInt32LE(0);
  const isPower = blockSize >= MIB && blockSize <= BLOCK_LIMIT && (blockSize & (blockSize - 1)) === 0;
  if (!isPower) throw corrupt(file, `blocks of ${blockSize} bytes`);
  const size = u64le(await read(ITEM.size, 8), 0);
  const logicalSector = (await read(ITEM.logicalSector, 4)).readUInt32LE(0);
  if (logicalSector !== 512 && logicalSector !== 4096) throw corrupt(file, `sectors of ${logicalSector} bytes`);
  if (!(size > 0 && size <= SIZE_LIMIT && size % logicalSector === 0)) throw corrupt(file, `a disk of ${size} bytes`);
  const hasParent = (parameters.readUInt32LE(4) & HAS_PARENT_FLAG) !== 0;
  const parent = hasParent ? parseLocator(file, await read(ITEM.parentLocator, 20)) : undefined;
  return { blockSize, size, logicalSector, parent };
}

async function readItems(
  file: ImageFile,
  region: { readonly offset: number; readonly length: number },
  tables: Tables,
  request: ReadRequest,
): Promise<Map<string, Item>> {
  const table = await tables.bytes(file, region.offset, TABLE_BYTES, "its metadata", request);
  const count = table.readUInt16LE(10);
  if (table.toString("latin1", 0, 8) !== "metadata" || count > ENTRIES_LIMIT || region.length < TABLE_BYTES) {
    throw corrupt(file, "no table of metadata");
  }
  const known = new Set<string>(Object.values(ITEM));
  const items = new Map<string, Item>();
  for (let index = 0; index < count; index++) {
    const at = 32 + index * 32;
    const id = readGuid(table, at);
    const offset = table.readUInt32LE(at + 16);
    const length = table.readUInt32LE(at + 20);
    if (!known.has(id)) {
      if ((table.readUInt32LE(at + 24) & REQUIRED_FLAG) === 0) continue;
      throw unsupported(file, `it has metadata that is not known: ${quoted(id)}`, "Convert it with qemu-img.");
    }
    const isWithin = offset >= TABLE_BYTES && length <= LOCATOR_LIMIT && offset + length <= region.length;
    if (!isWithin || items.has(id)) throw corrupt(file, "an item of its metadata is wrong, or is there twice");
    items.set(id, { offset: region.offset + offset, length });
  }
  return items;
}

/** [MS-VHDX] 2.6.2.6: keys and values as UTF-16. */
function parseLocator(file: ImageFile, bytes: Buffer): NonNullable<VhdxMetadata["parent"]> {
  if (readGuid(bytes, 0) !== VHDX_LOCATOR) {
    throw unsupported(
      file,
      "its parent is named in an unknown way",
      "Merge it with its parent before it is backed up.",
    );
  }
  const count = bytes.readUInt16LE(18);
  const values = new Map<string, string>();
  if (count > LOCATOR_ENTRIES_LIMIT || 20 + count * 12 > bytes.length)
    throw corrupt(file, "its parent's name is wrong");
  const text = (offset: number, length: number): string => {
    if (offset + length > bytes.length) throw corrupt(file, "its parent's name is wrong");
    return bytes.toString("utf16le", offset, offset + length);
  };
  for (let index = 0; index < count; index++) {
    const at = 20 + index * 12;
    const key = text(bytes.readUInt32LE(at), bytes.readUInt16LE(at + 8));
    values.set(key, text(bytes.readUInt32LE(at + 4), bytes.readUInt16LE(at + 10)));
  }
  const ids = ["parent_linkage", "parent_linkage2"].map((key) =>
    values
      .get(key)
      ?.toLowerCase()
      .replace(/[{}\0]/g, ""),
  );
  const lastOf = (key: string): string =>
    windowsPath(values.get(key) ?? "")
      .split("/")
      .at(-1) ?? "";
  const names = [windowsPath(values.get("relative_path") ?? ""), lastOf("absolute_win32_path"), lastOf("volume_path")];
  return {
    dataWriteIds: ids.filter((id) => id !== undefined),
    names: [...new Set(names)].filter((name) => name !== ""),
  };
}
