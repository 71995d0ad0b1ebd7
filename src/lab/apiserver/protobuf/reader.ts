const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
const DEEPEST = 16;

type Field = string | { readonly name: string; readonly as: Shape };
/** How a field is read: as in the JSON form, where a map's bytes are base64; `bytes` are left as they are. */
type Shape = "bool" | "bytes" | "strings" | "map" | "bytesMap" | Message;

/** A message by its field numbers; a bare name is a string. What is not named here is skipped. */
export interface Message {
  readonly [field: number]: Field;
}

/**
 * Reads a protocol buffer message (encoding of proto3) into the JSON form that Kubernetes has of it.
 *
 * @throws RangeError where it ends too early or is no such message
 */
export function readMessage(bytes: Buffer, message: Message, depth = 0): Record<string, unknown> {
  if (depth > DEEPEST) throw new RangeError("a message is nested too deeply");
  const result: Record<string, unknown> = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const field = message[number];
    if (field === undefined) continue;
    const { name, as } = typeof field === "string" ? { name: field, as: undefined } : field;
    if (as === "bool") result[name] = value === 1;
    else if (typeof value === "number") throw new RangeError(`${name} is a number`);
    else if (as === "bytes") result[name] = value;
    else if (as === undefined) {
      // Go writes empty strings too; in JSON they are left out.
      if (value.length > 0) result[name] = value.toString("utf8");
    } else if (typeof as !== "string") result[name] = readMessage(value, as, depth + 1);
    else if (as === "strings") result[name] = [...((result[name] as string[]) ?? []), value.toString("utf8")];
    else result[name] = { ...(result[name] as object), ...entryOf(value, as === "map" ? "utf8" : "base64") };
  }
  return result;
}

/** A map's entry: its key is field 1, its value field 2. Neither need be there. */
function entryOf(bytes: Buffer, encoding: "utf8" | "base64"): Record<string, string> {
  let key = "";
  let content = Buffer.alloc(0);
  for (const { number, value } of fieldsOf(bytes)) {
    if (typeof value === "number") throw new RangeError("a map's entry holds a number");
    if (number === 1) key = value.toString("utf8");
    else if (number === 2) content = Buffer.from(value);
  }
  return Object.fromEntries([[key, content.toString(encoding)]]);
}

function* fieldsOf(bytes: Buffer): Generator<{ number: number; value: number | Buffer }> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 10; shift++) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError("a message ends too early");
      value += (byte & 0x7f) * 2 ** (7 * shift);
      if (byte < 0x80) return value;
    }
    throw new RangeError("a number is too long");
  };
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw new RangeError("a message ends too early");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const type = tag % 8;
    if (type === VARINT) yield { number, value: varint() };
    else if (type === LENGTH_DELIMITED) yield { number, value: take(varint()) };
    else if (type === FIXED64) take(8);
    else if (type === FIXED32) take(4);
    else throw new RangeError(`there is no wire type ${type}`);
  }
}
