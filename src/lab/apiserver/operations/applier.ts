import { applyConfiguration, type Conflict, findConflicts, ownedAfterApply } from "../apply/apply.ts";
import { at } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { apiVersionOf, type ResourceDefinition } from "../registry/definition.ts";
import { badRequest, type Cause, StatusError } from "../status-error.ts";
import type { Cluster, WriteOptions } from "./context.ts";
import { createDecoded } from "./creator.ts";
import { decodeConfiguration, decodeObject } from "./decode.ts";
import { type RecordOwners, schemaOf, withManagedFields, writerOf } from "./managed.ts";
import { updateObject } from "./updater.ts";

/**
 * Server-side apply: creates the object, or changes it field by field.
 *
 * @param force take fields over that others own, instead of failing
 * @throws StatusError Conflict with one cause for each field that somebody else owns
 */
export function applyObject(
  cluster: Cluster,
  definition: ResourceDefinition,
  version: string,
  key: { readonly namespace: string; readonly name: string },
  body: unknown,
  force: boolean,
  options: WriteOptions,
): { readonly object: KubeObject; readonly created: boolean } {
  const config = checkedConfiguration(definition, version, key, body, options);
  const schema = schemaOf(definition, version);
  const writer = writerOf(definition, version, "Apply", options);
  const quiet: WriteOptions = { ...options, fieldValidation: "Ignore" };
  const live = cluster.store.get(definition.storageKey, key.namespace, key.name);
  if (live === undefined && options.subresource === "") {
    if ((config.metadata.uid ?? "") !== "") throw uidMismatch(key.name);
    const { object, fields } = applyConfiguration(schema, undefined, config, writer);
    const record: RecordOwners = (_definition, _version, _old, created, _options, now) =>
      withManagedFields(created, ownedAfterApply(schema, undefined, created, fields, writer, now));
    const decoded = decodeObject(definition, version, object, quiet);
    const created = createDecoded(cluster, definition, version, key.namespace, decoded, options, record);
    return { object: created, created: true };
  }
  let applied: ReturnType<typeof applyConfiguration> | undefined;
  const change = (old: KubeObject): KubeObject => {
    applied = applyConfiguration(schema, old, config, writer);
    const decoded = decodeObject(definition, version, applied.object, quiet);
    if (!force) refuseConflicts(findConflicts(schema, old, decoded, writer));
    return decoded;
  };
  const record: RecordOwners = (_definition, _version, old, object, _options, now) => {
    if (applied === undefined) return object;
    const before = old === undefined ? undefined : definition.toVersion(old, version);
    const after = definition.toVersion(object, version);
    return withManagedFields(object, ownedAfterApply(schema, before, after, applied.fields, writer, now));
  };
  return { object: updateObject(cluster, definition, version, key, options, change, record), created: false };
}

function checkedConfiguration(
  definition: ResourceDefinition,
  version: string,
  key: { readonly namespace: string; readonly name: string },
  body: unknown,
  options: WriteOptions,
): KubeObject {
  if (at(body as never, "metadata", "managedFields") !== undefined) {
    throw badRequest("metadata.managedFields must be nil");
  }
  const config = decodeConfiguration(definition, version, body);
  const { name, namespace } = config.metadata;
  if (name !== undefined && name !== key.name) {
    throw badRequest(`the name of the object (${name}) does not match the name on the URL (${key.name})`);
  }
  if ((namespace ?? "") !== "" && definition.namespaced && namespace !== key.namespace) {
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  }
  config.apiVersion = apiVersionOf(definition.group, version);
  config.metadata.name = key.name;
  if (definition.namespaced) config.metadata.namespace = key.namespace;
  return onlyPart(definition, config, options.subresource);
}

/** What the endpoint does not write, it neither changes nor lets anybody own. */
function onlyPart(definition: ResourceDefinition, config: KubeObject, subresource: string): KubeObject {
  const { apiVersion, kind, metadata, status, ...rest } = config;
  if (subresource !== "status") {
    const hasStatus = definition.versions.some((version) => version.status);
    return { apiVersion, kind, metadata, ...rest, ...(hasStatus || status === undefined ? {} : { status }) };
  }
  const { name, namespace, uid, resourceVersion } = metadata;
  const identity: KubeObject["metadata"] = {};
  for (const [field, value] of Object.entries({ name, namespace, uid, resourceVersion })) {
    if (value !== undefined) identity[field] = value;
  }
  return { apiVersion, kind, metadata: identity, ...(status === undefined ? {} : { status }) };
}

function uidMismatch(name: string): StatusError {
  const why = `uid mismatch: the provided object specified a uid, and no existing object was found`;
  return new StatusError(409, "Conflict", `Operation cannot be fulfilled on "${name}": ${why}`);
}

function refuseConflicts(conflicts: readonly Conflict[]): void {
  if (conflicts.length === 0) return;
  const causes = conflicts.map((conflict): Cause => {
    const { manager, operation, apiVersion, time, subresource } = conflict;
    const when = operation === "Update" ? ` using ${apiVersion}${time === "" ? "" : ` at ${time}`}` : "";
    const where = operation === "Update" && subresource !== "" ? ` with subresource "${subresource}"` : "";
    return {
      reason: "FieldManagerConflict",
      message: `conflict with "${manager}"${where}${when}`,
      field: formatPath(conflict.path),
    };
  });
  const [first] = causes;
  const plural = causes.length === 1 ? "conflict" : "conflicts";
  const text =
    causes.length === 1
      ? `${first?.message}: ${first?.field}`
      : causes.map((cause) => `${cause.message}: ${cause.field}`).join("\n");
  throw new StatusError(409, "Conflict", `Apply failed with ${causes.length} ${plural}: ${text}`, {
    causes: causes.map((cause) => ({ ...cause })),
  });
}

/** `.spec.containers[name="a"].image`. */
function formatPath(path: readonly string[]): string {
  return path
    .map((element) => {
      const rest = element.slice(2);
      if (element.startsWith("f:")) return `.${rest}`;
      if (element.startsWith("v:")) return `[=${rest}]`;
      if (element.startsWith("i:")) return `[${rest}]`;
      const key = Object.entries(JSON.parse(rest) as Record<string, unknown>);
      return `[${key.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(",")}]`;
    })
    .join("");
}
