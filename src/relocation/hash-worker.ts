import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import type { HashReply, HashRequest } from "./image-hash.ts";

const CHUNK = 1024 * 1024;
const ZEROS = Buffer.alloc(CHUNK);
const hash = createHash("sha256");

function file(path: string, from: number, to: number): void {
  const buffer = Buffer.allocUnsafe(CHUNK);
  const descriptor = openSync(path, "r");
  try {
    for (let at = from; at < to; ) {
      const length = readSync(descriptor, buffer, 0, Math.min(CHUNK, to - at), at);
      if (length === 0) throw new Error(`${path} ends at ${at}`);
      hash.update(buffer.subarray(0, length));
      at += length;
    }
  } finally {
    closeSync(descriptor);
  }
}

function answer(request: HashRequest): string | undefined {
  switch (request.kind) {
    case "data":
      hash.update(request.bytes);
      return undefined;
    case "zeros":
      for (let left = request.length; left > 0; left -= CHUNK) hash.update(ZEROS.subarray(0, Math.min(CHUNK, left)));
      return undefined;
    case "file":
      file(request.path, request.from, request.to);
      return undefined;
    case "digest":
      return hash.digest("hex");
  }
}

parentPort?.on("message", (request: HashRequest) => {
  try {
    const digest = answer(request);
    parentPort?.postMessage((digest === undefined ? {} : { digest }) satisfies HashReply);
  } catch (error) {
    parentPort?.postMessage({ failure: error instanceof Error ? error.message : String(error) } satisfies HashReply);
  }
});
