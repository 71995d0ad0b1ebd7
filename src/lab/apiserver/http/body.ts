import type { IncomingMessage } from "node:http";
import { StatusError } from "../status-error.ts";

/** As much as the real server takes. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** @throws StatusError RequestEntityTooLarge */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) {
      throw new StatusError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${MAX_BODY_BYTES}`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
