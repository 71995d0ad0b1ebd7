import { copyJson, isObject, type JsonValue } from "../json.ts";
import { isKubeObject, type KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import { decodeValue, type Findings } from "../schema/decode.ts";
import { applyDefaults } from "../schema/defaults.ts";
import { badRequest, StatusError } from "../status-error.ts";
import type { WriteOptions } from "./context.ts";
import { schemaOf } from "./managed.ts";

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
  options: WriteOptions,
): KubeObject {
  const { object, unknown } = decode(definition, version, body);
  if (unknown.length > 0 && options.fieldValidation === "Strict") {
    const fields = unknown.map((path) => `unknown field "${path}"`).join(", ");
    throw cannotHandle(definition, version, `strict decoding error: ${fields}`);
  }
  if (options.fieldValidation === "Warn") for (const path of unknown) options.warn(`unknown field "${path}"`);
  applyDefaults(schemaOf(definition, version), object);
  definition.strategy.applyDefaults(object);
  return object;
}

/**
 * An applied configuration: as the client wrote it, without defaults, so that it owns only what it names.
 *
 * @throws StatusError BadRequest; 500 for fields that the schema does not know, as the real server
 */
export function decodeConfiguration(definition: ResourceDefinition, version: string, body: unknown): KubeObject {
  const { object, unknown } = decode(definition, version, body);
  const [first] = unknown;
  if (first !== undefined) {
    const { name = "", namespace = "" } = object.metadata;
    const id = `${namespace}/${name}; ${object.apiVersion}, Kind=${object.kind}`;
    const message = `failed to create typed patch object (${id}): .${first}: field not declared in schema`;
    throw new StatusError(500, "", message);
  }
  return object;
}

function decode(
  definition: ResourceDefinition,
  version: string,
  body: unknown,
): { readonly object: KubeObject; readonly unknown: readonly string[] } {
  if (!isObject(body)) throw badRequest("the body of the request is not an object");
  const expected = apiVersionOf(definition.group, version);
  const object = copyJson({ apiVersion: expected, kind: definition.kind, ...body } as JsonValue);
  if (isObject(object) && (object.metadata ?? null) === null) object.metadata = {};
  if (!isKubeObject(object)) throw badRequest("the body of the request is not an object of this API");
  if (object.apiVersion !== expected) {
    throw badRequest(
      `the API version in the data (${object.apiVersion}) does not match the expected API version (${expected})`,
    );
  }
  if (object.kind !== definition.kind) {
    throw badRequest(`the kind in the data (${object.kind}) does not match the expected kind (${definition.kind})`);
  }
  const findings: Findings = { unknown: [], mistyped: [] };
  const schema = schemaOf(definition, version);
  const decoded = decodeValue(schema, object, "", !definition.custom, findings);
  if (findings.mistyped.length > 0) throw cannotHandle(definition, version, findings.mistyped.join(", "));
  if (!isKubeObject(decoded)) throw badRequest("the body of the request is not an object of this API");
  return { object: decoded, unknown: findings.unknown };
}

function cannotHandle({ kind }: ResourceDefinition, version: string, why: string): StatusError {
  return badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: ${why}`);
}
