import { corrupt, type ImageFile, quoted, unsupported } from "./image-file.ts";

const LINES_LIMIT = 10_000;
/** 2 GiB pieces of a 64 TiB disk are more than anybody makes. */
const EXTENTS_LIMIT = 4096;
const SECTOR = 512;
const NO_PARENT = "ffffffff";

/** One line of a descriptor that says where a part of the disk is. */
export interface VmdkExtentLine {
  readonly kind: "sparse" | "flat" | "zero";
  /** Bytes of the disk. */
  readonly length: number;
  /** Name of a file in the descriptor's own directory; empty for zeros. */
  readonly fileName: string;
  /** Flat: where the data begins in the file, bytes. */
  readonly start: number;
}

/** A VMDK descriptor (VMware's Virtual Disk Format 5.0), checked. */
export interface VmdkDescriptor {
  readonly createType: string;
  /** Changes whenever the disk is written; lower case. */
  readonly contentId: string;
  readonly parent: { readonly contentId: string; readonly fileName: string } | undefined;
  readonly extents: readonly VmdkExtentLine[];
}

/** @throws DiskError IMAGE_CORRUPT, IMAGE_UNSUPPORTED */
export function parseVmdkDescriptor(file: ImageFile, text: string): VmdkDescriptor {
  const settings = new Map<string, string>();
  const extents: VmdkExtentLine[] = [];
  const lines = (text.split("\0")[0] ?? "").split(/\r?\n/, LINES_LIMIT + 1);
  if (lines.length > LINES_LIMIT) throw corrupt(file, "a descriptor of too many lines");
  if (lines[0]?.trim() !== "# Disk DescriptorFile") throw corrupt(file, "no VMDK descriptor");
  for (const line of lines) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    if (/^(RW|RDONLY|NOACCESS)\s/.test(trimmed)) {
      if (extents.length === EXTENTS_LIMIT) throw corrupt(file, "a descriptor of too many extents");
      extents.push(parseExtent(file, trimmed));
      continue;
    }
    const equals = trimmed.indexOf("=");
    if (equals > 0) settings.set(trimmed.slice(0, equals).trim().toLowerCase(), unquote(trimmed.slice(equals + 1)));
  }
  const parentId = settings.get("parentcid")?.toLowerCase() ?? NO_PARENT;
  const hint = settings.get("parentfilenamehint");
  return {
    createType: settings.get("createtype") ?? "",
    contentId: settings.get("cid")?.toLowerCase() ?? "",
    parent: parentId === NO_PARENT ? undefined : { contentId: parentId, fileName: checkName(file, hint ?? "") },
    extents,
  };
}

function parseExtent(file: ImageFile, line: string): VmdkExtentLine {
  const found = /^(RW|RDONLY|NOACCESS)\s+(\d{1,15})\s+([A-Z]+)(?:\s+"([^"]*)"(?:\s+(\d{1,15}))?)?/.exec(line);
  const [, access, sectors = "", kind = "", name = "", start = "0"] = found ?? [];
  if (found === null) throw corrupt(file, `its descriptor holds the line ${quoted(line)}`);
  const length = Number(sectors) * SECTOR;
  const offset = Number(start) * SECTOR;
  if (!Number.isSafeInteger(length) || !Number.isSafeInteger(offset)) {
    throw corrupt(file, `its descriptor holds the line ${quoted(line)}`);
  }
  if (access === "NOACCESS" || !["SPARSE", "FLAT", "VMFS", "ZERO"].includes(kind)) {
    throw unsupported(file, `its descriptor has an extent of kind ${quoted(`${access} ${kind}`)}`, CONVERT);
  }
  if (kind === "ZERO") return { kind: "zero", length, fileName: "", start: 0 };
  const fileName = checkName(file, name);
  return { kind: kind === "SPARSE" ? "sparse" : "flat", length, fileName, start: kind === "SPARSE" ? 0 : offset };
}

const CONVERT =
  "Convert it to one self-contained file with `qemu-img convert`, or export it as OVF, before it is backed up.";

/** A descriptor is text that anybody may have written: it names files of its own directory, or none. */
function checkName(file: ImageFile, name: string): string {
  const isPlain = name !== "" && name !== "." && name !== ".." && !/[/\\:\0]/.test(name);
  if (isPlain) return name;
  throw unsupported(
    file,
    `its descriptor names the file ${quoted(name)}`,
    "All files of a VMDK must be in one directory.",
  );
}

function unquote(text: string): string {
  const trimmed = text.trim();
  return /^".*"$/.test(trimmed) ? trimmed.slice(1, -1) : trimmed;
}
