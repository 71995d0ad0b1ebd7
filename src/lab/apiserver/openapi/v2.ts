import type { JsonObject } from "../json.ts";
import type { ResourceDefinition, VersionDefinition } from "../registry/definition.ts";
import type { Registry } from "../registry/registry.ts";
import { collectionPath, operationId, SchemaWriter } from "./document.ts";

const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation"];

/** `/openapi/v2`: Swagger 2.0 of everything that is served. */
export function openApiV2(registry: Registry): JsonObject {
  const writer = new SchemaWriter("v2");
  const paths: JsonObject = {};
  for (const definition of registry) {
    for (const version of definition.versions) addPaths(paths, writer, definition, version);
  }
  return {
    swagger: "2.0",
    info: { title: "Kubernetes", version: "unversioned" },
    paths,
    definitions: writer.definitions,
  };
}

function addPaths(
  paths: JsonObject,
  writer: SchemaWriter,
  definition: ResourceDefinition,
  version: VersionDefinition,
): void {
  const kind = { group: definition.group, kind: definition.kind, version: version.version };
  const schema = writer.addKind(definition, version.version, version.schema);
  const operation = (verb: string, action: string, parameters: readonly string[], takesBody: boolean): JsonObject => ({
    operationId: operationId(verb, definition, version.version),
    consumes: ["*/*"],
    produces: ["application/json"],
    parameters: [
      ...(takesBody ? [{ name: "body", in: "body", required: true, schema }] : []),
      ...parameters.map((name) => ({ name, in: "query", type: "string", uniqueItems: true })),
    ],
    responses: { "200": { description: "OK", schema } },
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": kind,
  });
  const collection = collectionPath(definition, version.version);
  paths[collection] = {
    get: operation("list", "list", ["labelSelector", "fieldSelector", "limit", "continue", "watch"], false),
    post: operation("create", "post", WRITE_PARAMETERS, true),
  };
  paths[`${collection}/{name}`] = {
    get: operation("read", "get", [], false),
    put: operation("replace", "put", WRITE_PARAMETERS, true),
    patch: operation("patch", "patch", [...WRITE_PARAMETERS, "force"], true),
    delete: operation("delete", "delete", ["dryRun", "gracePeriodSeconds", "propagationPolicy"], false),
  };
}
