/** A GUID as it lies in a file (its first three fields little-endian), as lower-case text without braces. */
export function readGuid(bytes: Buffer, at: number): string {
  const field = (offset: number, length: number): string =>
    Buffer.from(bytes.subarray(at + offset, at + offset + length))
      .reverse()
      .toString("hex");
  const rest = bytes.toString("hex", at + 8, at + 16);
  return `${field(0, 4)}-${field(4, 2)}-${field(6, 2)}-${rest.slice(0, 4)}-${rest.slice(4)}`;
}

export const NO_GUID = "00000000-0000-0000-0000-000000000000";
