import type { IncomingMessage } from "node:http";
import { parse as parseYaml } from "yaml";
import { errorMessage } from "../../../base/errors.ts";
import { badRequest, StatusError, unsupportedMediaType } from "../status-error.ts";

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

/** The media type without parameters, in lower case. */
export function mediaTypeOf(header: string | undefined): string {
  return (header ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

/**
 * JSON, or YAML where the client says so.
 *
 * @throws StatusError BadRequest, UnsupportedMediaType
 */
export function parseBody(body: Buffer, mediaType: string): unknown {
  try {
    switch (mediaType) {
      case "":
      case "application/json":
        return JSON.parse(body.toString("utf8"));
      case "application/yaml":
      case "application/apply-patch+yaml":
        return parseYaml(body.toString("utf8"), { maxAliasCount: 0 });
    }
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${errorMessage(error)}`);
  }
  throw unsupportedMediaType(["application/json", "application/yaml"]);
}
