import { parse as parseYaml } from "yaml";
import { errorMessage } from "../../base/errors.ts";
import { decodeProtobufObject } from "./protobuf/objects.ts";
import { badRequest, unsupportedMediaType } from "./status-error.ts";

/** The media type without parameters, in lower case. */
export function mediaTypeOf(header: string | undefined): string {
  return (header ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

/**
 * JSON, or YAML where the client says so, or protobuf for the few kinds that kubectl sends so.
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
      case "application/vnd.kubernetes.protobuf": {
        const object = decodeProtobufObject(body);
        if (object !== undefined) return object;
      }
    }
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${errorMessage(error)}`);
  }
  throw unsupportedMediaType(["application/json", "application/yaml"]);
}
