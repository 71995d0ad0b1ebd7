import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { VmRestoreError } from "../base/errors.ts";
import { decodeBlob, decodeTreeInPieces } from "./blob-codec.ts";
import type { CryptoKey } from "./crypto.ts";
import type { DecodeKey, DecodeReply, DecodeRequest } from "./decoder.ts";
import { IdTable } from "./id-table.ts";
import { parseIndex } from "./index-file.ts";
import { release } from "./release.ts";
import { parseTree } from "./tree.ts";
import { decodeUnpacked } from "./unpacked.ts";

type Value = NonNullable<DecodeReply["value"]>;

/** What a hash of zeros is made of: at most a blob's length, so in pieces. */
const ZEROS = Buffer.alloc(64 * 1024);

/** The answer, and what of it is given away rather than copied. */
async function answer(key: CryptoKey, request: DecodeRequest): Promise<[Value, ArrayBuffer[]]> {
  switch (request.kind) {
    case "data": {
      const plain = decodeBlob(key, request.id, request.pack, request.sealed, request.uncompressedLength);
      // A slice of Node's pool cannot be given away: everything else that lies in it would go along. The one byte more is room
      // that decompressing leaves.
      const own = plain.buffer.byteLength <= plain.byteLength + 1 ? plain : new Uint8Array(plain);
      return [own, [own.buffer as ArrayBuffer]];
    }
    case "tree": {
      const { id, pack, sealed, uncompressedLength } = request;
      const pieces = decodeTreeInPieces(key, id, pack, sealed, uncompressedLength);
      const tree = await parseTree(id, pieces, uncompressedLength > 0 ? uncompressedLength : sealed.length);
      return [tree, [tree.contents.buffer]];
    }
    case "index": {
      const { buffer, byteOffset, length } = request.sealed;
      const file = { type: "index", name: request.name } as const;
      const plain = decodeUnpacked(key, Buffer.from(buffer, byteOffset, length), file);
      const { selection } = request;
      const entries = parseIndex(
        request.name,
        plain,
        typeof selection === "string" ? selection : IdTable.from(selection),
      );
      release(plain);
      return [entries, Object.values(entries).map(({ buffer: part }) => part)];
    }
    case "zeros":
      return [hashOfZeros(request.length), []];
  }
}

function hashOfZeros(length: number): string {
  const hash = createHash("sha256");
  for (let left = length; left > 0; left -= ZEROS.length) hash.update(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
  return hash.digest("hex");
}

async function reply(key: CryptoKey, request: DecodeRequest & { number: number }): Promise<void> {
  try {
    const [value, transfer] = await answer(key, request);
    parentPort?.postMessage({ number: request.number, value } satisfies DecodeReply, transfer);
  } catch (error) {
    const ours = error instanceof VmRestoreError ? error : undefined;
    const failure = {
      code: ours?.code ?? "REPOSITORY_OBJECT_DAMAGED",
      message: error instanceof Error ? error.message : String(error),
      hint: ours?.hint,
    };
    parentPort?.postMessage({ number: request.number, failure } satisfies DecodeReply);
  } finally {
    if (request.kind !== "zeros") release(request.sealed);
  }
}

parentPort?.once("message", ({ key }: DecodeKey) => {
  parentPort?.on("message", (request: DecodeRequest & { number: number }) => void reply(key, request));
});
