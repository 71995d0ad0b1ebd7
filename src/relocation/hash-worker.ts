import { createHash } from "node:crypto";
import { parentPort } from "node:worker_threads";
import type { HashReply, HashRequest } from "./image-hash.ts";
import { UncachedReads } from "./uncached-reads.ts";

const CHUNK = 1024 * 1024;
const ZEROS = Buffer.alloc(CHUNK);
const hash = createHash("sha256");

function file(path: string, from: number, to: number): void {
  const reads = new UncachedReads(path);
  try {
    for (const piece of reads.pieces(from, to)) hash.update(piece);
  } finally {
    reads.close();
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
