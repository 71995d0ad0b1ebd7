import type { ObjectMeta } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import type { Cause } from "../status-error.ts";

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SUBDOMAIN_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_RULE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
/** Kinds named by a DNS label, because other names are made from theirs. */
const LABEL_NAMED = new Set(["/Namespace", "/Service"]);
/** RBAC's names are path segments: anything but `.`, `..`, `/` and `%`. */
const PATH_SEGMENT_GROUP = "rbac.authorization.k8s.io";

export function invalidValue(field: string, value: unknown, rule: string): Cause {
  return { reason: "FieldValueInvalid", message: `Invalid value: ${JSON.stringify(value)}: ${rule}`, field };
}

export function required(field: string, why = ""): Cause {
  return { reason: "FieldValueRequired", message: `Required value${why === "" ? "" : `: ${why}`}`, field };
}

/** Names, labels, annotations and finalizers, as meta/v1 wants them. */
export function validateMetadata(metadata: ObjectMeta, definition: ResourceDefinition): Cause[] {
  const causes = validateName(metadata.name ?? "", definition);
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    causes.push(...validateKey("metadata.labels", key));
    if (value.length > 63 || !LABEL_VALUE.test(value)) {
      const rule =
        value.length > 63
          ? "must be no more than 63 bytes"
          : "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
      causes.push(invalidValue("metadata.labels", value, rule));
    }
  }
  for (const key of Object.keys(metadata.annotations ?? {})) causes.push(...validateKey("metadata.annotations", key));
  for (const [index, owner] of (metadata.ownerReferences ?? []).entries()) {
    for (const key of ["apiVersion", "kind", "name", "uid"]) {
      if ((owner[key] ?? "") === "") {
        causes.push(invalidValue(`metadata.ownerReferences[${index}].${key}`, owner[key] ?? "", "must not be empty"));
      }
    }
  }
  return causes;
}

function validateName(name: string, definition: ResourceDefinition): Cause[] {
  if (name === "") return [required("metadata.name", "name or generateName is required")];
  if (definition.group === PATH_SEGMENT_GROUP) {
    return /^\.{1,2}$|[/%]/.test(name) ? [invalidValue("metadata.name", name, "may not contain '/' or '%'")] : [];
  }
  if (LABEL_NAMED.has(`${definition.group}/${definition.kind}`)) {
    if (name.length > 63) return [invalidValue("metadata.name", name, "must be no more than 63 bytes")];
    return LABEL.test(name) ? [] : [invalidValue("metadata.name", name, LABEL_RULE)];
  }
  if (name.length > 253) return [invalidValue("metadata.name", name, "must be no more than 253 bytes")];
  return SUBDOMAIN.test(name) ? [] : [invalidValue("metadata.name", name, SUBDOMAIN_RULE)];
}

function validateKey(field: string, key: string): Cause[] {
  const [prefix, name] = key.includes("/")
    ? [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)]
    : ["", key];
  const goodPrefix = !key.includes("/") || (prefix.length <= 253 && SUBDOMAIN.test(prefix.toLowerCase()));
  if (goodPrefix && name.length > 0 && name.length <= 63 && QUALIFIED.test(name)) return [];
  return [
    invalidValue(
      field,
      key,
      "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    ),
  ];
}

/** What an update may not do to metadata. */
export function validateMetadataUpdate(metadata: ObjectMeta, old: ObjectMeta): Cause[] {
  const causes: Cause[] = [];
  if (metadata.name !== old.name) {
    causes.push(invalidValue("metadata.name", metadata.name, "field is immutable"));
  }
  if (old.deletionTimestamp !== undefined) {
    const added = (metadata.finalizers ?? []).filter((name) => !(old.finalizers ?? []).includes(name));
    if (added.length > 0) {
      const message = `Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`;
      causes.push({ reason: "FieldValueForbidden", message, field: "metadata.finalizers" });
    }
  }
  return causes;
}
