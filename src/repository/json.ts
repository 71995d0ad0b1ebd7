/** JSON, or undefined where it is none. */
export function parseJson(content: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.length).toString("utf8"));
  } catch {
    return undefined;
  }
}
