import { createHash } from "node:crypto";
import type { JsonObject } from "../json.ts";
import { apiVersionOf, type ResourceDefinition, type VersionDefinition } from "../registry/definition.ts";
import type { Registry } from "../registry/registry.ts";
import { collectionPath, operationId, SchemaWriter } from "./document.ts";

/** Parameters by which kubectl sees what the server can do: validation of fields, dry run, field managers. */
const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation"];

function groupVersionPath(group: string, version: string): string {
  return `${group === "" ? "api" : "apis"}/${apiVersionOf(group, version)}`;
}

/** `/openapi/v3`: where the document of each group and version is. */
export function openApiV3Index(registry: Registry): JsonObject {
  const paths: JsonObject = {};
  for (const definition of registry) {
    for (const { version } of definition.versions) {
      const path = groupVersionPath(definition.group, version);
      const hash = createHash("sha256").update(`${path} ${registry.generation}`).digest("hex");
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${hash.toUpperCase()}` };
    }
  }
  return { paths };
}

/** `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`; undefined where that is not served. */
export function openApiV3(registry: Registry, path: string): JsonObject | undefined {
  const writer = new SchemaWriter("v3");
  const paths: JsonObject = {};
  for (const definition of registry) {
    for (const version of definition.versions) {
      if (groupVersionPath(definition.group, version.version) === path) addPaths(paths, writer, definition, version);
    }
  }
  if (Object.keys(paths).length === 0) return undefined;
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: "unversioned" },
    paths,
    components: { schemas: writer.definitions },
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
  const operation = (verb: string, action: string, parameters: readonly string[]): JsonObject => ({
    operationId: operationId(verb, definition, version.version),
    parameters: parameters.map((name) => ({ name, in: "query", schema: { type: "string", uniqueItems: true } })),
    responses: { "200": { description: "OK", content: { "application/json": { schema } } } },
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": kind,
  });
  const body = { requestBody: { content: { "*/*": { schema } } } };
  const collection = collectionPath(definition, version.version);
  paths[collection] = {
    get: operation("list", "list", ["labelSelector", "fieldSelector", "limit", "continue", "watch"]),
    post: { ...operation("create", "post", WRITE_PARAMETERS), ...body },
  };
  paths[`${collection}/{name}`] = {
    get: operation("read", "get", []),
    put: { ...operation("replace", "put", WRITE_PARAMETERS), ...body },
    patch: { ...operation("patch", "patch", [...WRITE_PARAMETERS, "force"]), ...body },
    delete: operation("delete", "delete", ["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
  };
}
