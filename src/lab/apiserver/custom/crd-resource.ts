import { arrayAt, isObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import { modelSchema } from "../schema/models.ts";
import type { Cause } from "../status-error.ts";
import { nameColumn } from "../tables/columns.ts";
import { invalidValue, required } from "../validation/metadata.ts";

export const CRD_GROUP = "apiextensions.k8s.io";
export const CRD_STORAGE_KEY = `${CRD_GROUP}/customresourcedefinitions`;
/** Keeps a CRD until all its objects are gone. */
export const CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io";

/** The resource `customresourcedefinitions` itself. */
export function crdDefinition(): ResourceDefinition {
  return {
    group: CRD_GROUP,
    resource: "customresourcedefinitions",
    singular: "customresourcedefinition",
    kind: "CustomResourceDefinition",
    listKind: "CustomResourceDefinitionList",
    shortNames: ["crd", "crds"],
    categories: ["api-extensions"],
    namespaced: false,
    versions: [
      {
        version: "v1",
        schema: modelSchema("V1CustomResourceDefinition"),
        columns: [
          nameColumn,
          {
            name: "Created At",
            type: "date",
            priority: 0,
            value: (object) => object.metadata.creationTimestamp ?? "",
          },
        ],
        status: true,
        scale: undefined,
      },
    ],
    storageVersion: "v1",
    custom: false,
    storageKey: CRD_STORAGE_KEY,
    toVersion: (object) => object,
    toStorage: (object) => object,
    subresources: [],
    strategy: {
      generation: true,
      returnsDeleted: false,
      requiresRevision: false,
      deletion: "Background",
      applyDefaults: defaultNames,
      prepareCreate: (crd) => {
        const versions = arrayAt(crd, "spec", "versions").filter(isObject);
        const storage = versions.find((version) => version.storage === true);
        crd.status = {
          conditions: [],
          acceptedNames: { plural: "", kind: "" },
          storedVersions: storage ? [storage.name ?? ""] : [],
        };
      },
      prepareUpdate: () => {},
      validateCreate: validate,
      validateUpdate: (crd, old) => [...validate(crd), ...validateUpdate(crd, old)],
    },
  };
}

function defaultNames(crd: KubeObject): void {
  const { spec } = crd;
  if (!isObject(spec)) return;
  if (!isObject(spec.conversion)) spec.conversion = { strategy: "None" };
  const { names } = spec;
  if (!isObject(names)) return;
  const kind = stringAt(names, "kind");
  if (stringAt(names, "singular") === "") names.singular = kind.toLowerCase();
  if (stringAt(names, "listKind") === "" && kind !== "") names.listKind = `${kind}List`;
}

function validate(crd: KubeObject): Cause[] {
  const causes: Cause[] = [];
  const group = stringAt(crd, "spec", "group");
  const plural = stringAt(crd, "spec", "names", "plural");
  if (group === "") causes.push(required("spec.group"));
  if (plural === "") causes.push(required("spec.names.plural"));
  if (stringAt(crd, "spec", "names", "kind") === "") causes.push(required("spec.names.kind"));
  if (crd.metadata.name !== `${plural}.${group}`) {
    causes.push(invalidValue("metadata.name", crd.metadata.name, 'must be spec.names.plural+"."+spec.group'));
  }
  const scope = stringAt(crd, "spec", "scope");
  if (scope !== "Namespaced" && scope !== "Cluster") {
    const message = `Unsupported value: "${scope}": supported values: "Cluster", "Namespaced"`;
    causes.push({ reason: "FieldValueNotSupported", message, field: "spec.scope" });
  }
  if (stringAt(crd, "spec", "conversion", "strategy") === "Webhook") {
    const rule = "the lab calls no webhooks: only None is supported";
    causes.push(invalidValue("spec.conversion.strategy", "Webhook", rule));
  }
  return [...causes, ...validateVersions(crd)];
}

function validateVersions(crd: KubeObject): Cause[] {
  const causes: Cause[] = [];
  const versions = arrayAt(crd, "spec", "versions").filter(isObject);
  if (versions.length === 0) causes.push(required("spec.versions"));
  if (versions.filter((version) => version.storage === true).length !== 1) {
    const names = versions.map((version) => stringAt(version, "name"));
    causes.push(invalidValue("spec.versions", names, "must have exactly one version marked as storage version"));
  }
  for (const [index, version] of versions.entries()) {
    const path = `spec.versions[${index}]`;
    const schema = objectAt(version, "schema").openAPIV3Schema;
    if (!isObject(schema)) causes.push(required(`${path}.schema.openAPIV3Schema`, "schemas are required"));
    else if (schema.type !== "object") {
      causes.push(invalidValue(`${path}.schema.openAPIV3Schema.type`, schema.type ?? "", "must be object at the root"));
    }
  }
  return causes;
}

function validateUpdate(crd: KubeObject, old: KubeObject): Cause[] {
  const paths = [
    ["spec", "group"],
    ["spec", "scope"],
    ["spec", "names", "kind"],
    ["spec", "names", "plural"],
  ];
  return paths
    .filter((path) => stringAt(crd, ...path) !== stringAt(old, ...path))
    .map((path) => invalidValue(path.join("."), stringAt(crd, ...path), "field is immutable"));
}
