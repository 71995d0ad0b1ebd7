/** How far in the marks of the formats lie that carry one at their beginning. */
export const FORMAT_HEAD_BYTES = 512;
const VHD_FOOTER_BYTES = 512;

const AT_START: readonly (readonly [string, Buffer, number])[] = [
  ["qcow2", Buffer.from("QFI\xfb", "latin1"), 0],
  ["VMDK", Buffer.from("KDMV"), 0],
  ["VMDK", Buffer.from("COWD"), 0],
  ["VMDK", Buffer.from("# Disk DescriptorFile"), 0],
  ["VHDX", Buffer.from("vhdxfile"), 0],
  ["VHD", Buffer.from("conectix"), 0],
  ["VDI", Buffer.from("7f10dabe", "hex"), 64],
  ["QED", Buffer.from("QED\0", "latin1"), 0],
];

/**
 * Names the disk image format whose mark the file carries, or undefined: then it is taken as raw. Serving such a file as raw
 * would show the guest a container in place of its disk.
 *
 * @param head the file's first 512 bytes, or all of a shorter one
 * @param tail its last 512 bytes, where a fixed VHD has its footer
 */
export function foreignFormat(head: Uint8Array, tail: Uint8Array): string | undefined {
  const start = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  for (const [name, mark, offset] of AT_START) {
    if (start.subarray(offset, offset + mark.length).equals(mark)) return name;
  }
  const end = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength).subarray(-VHD_FOOTER_BYTES);
  return end.subarray(0, 8).equals(Buffer.from("conectix")) ? "VHD" : undefined;
}
