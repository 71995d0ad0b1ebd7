import * as z from "zod";

/** The formats that a disk's file may be in, as the programs name them to one another. */
export const diskFormat = z.enum(["raw", "qcow2", "vmdk", "vhd", "vhdx"]);

/** What a user says of a disk's file. */
export const diskFormatChoice = z.enum(["Auto", "Raw", "QCOW2", "VMDK", "VHD", "VHDX"]);

type DiskFormat = z.infer<typeof diskFormat>;

/** `auto`: to be recognised, as docs/decisions/0021 says. */
export const WANTED_FORMATS: Readonly<Record<z.infer<typeof diskFormatChoice>, DiskFormat | "auto">> = {
  Auto: "auto",
  Raw: "raw",
  QCOW2: "qcow2",
  VMDK: "vmdk",
  VHD: "vhd",
  VHDX: "vhdx",
};
