import { DiskError } from "../errors.ts";
import { type ImageFile, type ReadRequest, unsupported } from "./image-file.ts";
import { isVhdFooter } from "./vhd-header.ts";
import type { ImageFormat } from "./virtual-image.ts";

const SECTOR = 512;

/** Every mark that tells a format by itself; some of the formats are known only to be refused. */
const MARKS: readonly (readonly [ImageFormat | "VDI" | "QED", Buffer, number])[] = [
  ["qcow2", Buffer.from("QFI\xfb", "latin1"), 0],
  ["vmdk", Buffer.from("KDMV"), 0],
  ["vmdk", Buffer.from("COWD"), 0],
  ["vmdk", Buffer.from("# Disk DescriptorFile"), 0],
  ["vhdx", Buffer.from("vhdxfile"), 0],
  ["vhd", Buffer.from("conectix"), 0],
  ["VDI", Buffer.from("7f10dabe", "hex"), 64],
  ["QED", Buffer.from("QED\0", "latin1"), 0],
];

const ENDINGS: Readonly<Record<string, ImageFormat>> = {
  qcow2: "qcow2",
  qcow: "qcow2",
  vmdk: "vmdk",
  vhd: "vhd",
  vpc: "vhd",
  vhdx: "vhdx",
  avhd: "vhd",
  avhdx: "vhdx",
};

/**
 * The format of a file that nobody named one for. What a raw disk holds was written by its guest, which may have put another
 * format's mark there, or have been given such a file as its data: so a file is taken for an image of a format only where its
 * name says so too, and for raw only where neither does. See docs/decisions/0021.
 *
 * @throws DiskError IMAGE_AMBIGUOUS where name and content differ; IMAGE_UNSUPPORTED
 */
export async function detectFormat(file: ImageFile, request: ReadRequest): Promise<ImageFormat> {
  const named = formatOfName(file.path);
  const marked = await formatOfContent(file, request);
  if (marked === "VDI" || marked === "QED") {
    const hint =
      "Convert it with qemu-img; or, if it is a raw disk that holds such an image, say that its format is Raw.";
    throw unsupported(file, `it looks like a ${marked} image`, hint);
  }
  if (named === marked) return named ?? "raw";
  const looks = marked === undefined ? "has no mark of any format" : `begins or ends like ${marked}`;
  const says = named === undefined ? "its name does not tell a format" : `its name says ${named}`;
  throw new DiskError("IMAGE_AMBIGUOUS", `${file.path} ${looks}, but ${says}`, {
    hint: "Say in spec.source.disks[].format what it is: Raw for a disk as the guest sees it.",
  });
}

/** The format that the file's name tells by its ending; undefined where it tells none, or raw. */
export function formatOfName(path: string): ImageFormat | undefined {
  const ending = /\.([A-Za-z0-9]+)$/.exec(path)?.[1]?.toLowerCase() ?? "";
  return ENDINGS[ending];
}

async function formatOfContent(
  file: ImageFile,
  request: ReadRequest,
): Promise<ImageFormat | "VDI" | "QED" | undefined> {
  const head = await file.read(0, Math.min(SECTOR, file.size), request);
  for (const [format, mark, offset] of MARKS) {
    if (head.subarray(offset, offset + mark.length).equals(mark)) return format;
  }
  // A fixed VHD has its footer alone.
  if (file.size < SECTOR) return undefined;
  return isVhdFooter(await file.read(file.size - SECTOR, SECTOR, request)) ? "vhd" : undefined;
}
