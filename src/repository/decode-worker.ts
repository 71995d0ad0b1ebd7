import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { VmRestoreError } from "../base/errors.ts";
import { decodeBlob } from "./blob-codec.ts";
import type { CryptoKey } from "./crypto.ts";
import type { DecodeReply, DecodeRequest } from "./decoder.ts";
import { IdSet } from "./id-set.ts";
import { parseIndex } from "./index-file.ts";
import { decodeUnpacked } from "./unpacked.ts";

const key = workerData as CryptoKey;

function answer(request: DecodeRequest): [NonNullable<DecodeReply["value"]>, ArrayBuffer[]] {
  switch (request.kind) {
    case "blob": {
      const plain = decodeBlob(key, request.id, request.pack, request.sealed, request.uncompressedLength);
      // A slice of Node's pool cannot be given away: everything else that lies in it would go along.
      const own =
        plain.byteLength === plain.buffer.byteLength
          ? plain.buffer
          : plain.buffer.slice(plain.byteOffset, plain.byteOffset + plain.byteLength);
      return [new Uint8Array(own as ArrayBuffer), [own as ArrayBuffer]];
    }
    case "index": {
      const wanted = request.wanted === undefined ? undefined : IdSet.from(request.wanted);
      const plain = decodeUnpacked(
        key,
        Buffer.from(request.sealed.buffer, request.sealed.byteOffset, request.sealed.length),
        {
          type: "index",
          name: request.name,
        },
      );
      const entries = parseIndex(request.name, plain, (type, id) =>
        wanted === undefined ? type === "tree" : type === "data" && wanted.has(id),
      );
      return [entries, [entries.ids.buffer, entries.columns.buffer]];
    }
    case "zeros":
      return [createHash("sha256").update(Buffer.alloc(request.length)).digest("hex"), []];
  }
}

parentPort?.on("message", (request: DecodeRequest & { number: number }) => {
  try {
    const [value, transfer] = answer(request);
    parentPort?.postMessage({ number: request.number, value } satisfies DecodeReply, transfer);
  } catch (error) {
    const ours = error instanceof VmRestoreError ? error : undefined;
    const failure = {
      code: ours?.code ?? "REPOSITORY_OBJECT_DAMAGED",
      message: error instanceof Error ? error.message : String(error),
      hint: ours?.hint,
    };
    parentPort?.postMessage({ number: request.number, failure } satisfies DecodeReply);
  }
});
