import { copyJson, equalJson, isObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { Cause } from "../status-error.ts";
import { invalidValue, required } from "../validation/metadata.ts";
import { forbiddenField, immutable, type KindStrategy, setDefaults } from "./kind.ts";

const namespace: KindStrategy = {
  applyDefaults: (object) => {
    const { metadata } = object;
    const { name } = metadata;
    if (name !== undefined && name !== "")
      metadata.labels = { ...metadata.labels, "kubernetes.io/metadata.name": name };
  },
  prepareCreate: (object) => {
    object.status = { phase: "Active" };
    object.spec = { finalizers: ["kubernetes"] };
    object.metadata.labels = { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name ?? "" };
  },
  prepareUpdate: (object, old, subresource) => {
    if (subresource === "finalize") return;
    object.spec = copyJson(objectAt(old, "spec"));
  },
};

const KEY = /^[-._a-zA-Z0-9]+$/;

/** Keys are file names, and what is marked immutable stays as it is. */
function validateData(object: KubeObject, lists: readonly string[]): Cause[] {
  return lists.flatMap((list) =>
    Object.keys(objectAt(object, list))
      .filter((key) => key.length > 253 || !KEY.test(key) || key === "." || key === "..")
      .map((key) =>
        invalidValue(
          `${list}[${key}]`,
          key,
          "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        ),
      ),
  );
}

function validateSealed(object: KubeObject, old: KubeObject, lists: readonly string[]): Cause[] {
  if (old.immutable !== true) return [];
  return [
    ...(object.immutable === true ? [] : [forbiddenField("immutable", "field is immutable when `immutable` is set")]),
    ...lists
      .filter((list) => !equalJson(object[list] ?? {}, old[list] ?? {}))
      .map((list) => forbiddenField(list, "field is immutable when `immutable` is set")),
  ];
}

const secret: KindStrategy = {
  applyDefaults: (object) => {
    setDefaults(object, { type: "Opaque" });
    const { stringData } = object;
    if (!isObject(stringData)) return;
    const data = { ...objectAt(object, "data") };
    for (const [key, value] of Object.entries(stringData)) data[key] = Buffer.from(String(value)).toString("base64");
    object.data = data;
    delete object.stringData;
  },
  validateCreate: (object) => validateData(object, ["data"]),
  validateUpdate: (object, old) => [
    ...validateData(object, ["data"]),
    ...immutable("type", object.type, old.type),
    ...validateSealed(object, old, ["data"]),
  ],
};

const configMap: KindStrategy = {
  validateCreate: (object) => validateData(object, ["data", "binaryData"]),
  validateUpdate: (object, old) => [
    ...validateData(object, ["data", "binaryData"]),
    ...validateSealed(object, old, ["data", "binaryData"]),
  ],
};

const RBAC = "rbac.authorization.k8s.io";

const binding: KindStrategy = {
  applyDefaults: (object) => {
    if (isObject(object.roleRef)) setDefaults(object.roleRef, { apiGroup: RBAC });
    for (const subject of Array.isArray(object.subjects) ? object.subjects : []) {
      if (isObject(subject) && subject.kind !== "ServiceAccount") setDefaults(subject, { apiGroup: RBAC });
    }
  },
  validateCreate: (object) => (stringAt(object, "roleRef", "name") === "" ? [required("roleRef.name")] : []),
  validateUpdate: (object, old) => immutable("roleRef", object.roleRef, old.roleRef, "cannot change roleRef"),
};

const lease: KindStrategy = {
  validateCreate: validateLease,
  validateUpdate: validateLease,
};

function validateLease(object: KubeObject): Cause[] {
  const seconds = objectAt(object, "spec").leaseDurationSeconds;
  return typeof seconds === "number" && seconds <= 0
    ? [invalidValue("spec.leaseDurationSeconds", seconds, "must be greater than 0")]
    : [];
}

export const coreStrategies: Readonly<Record<string, KindStrategy>> = {
  "/Namespace": namespace,
  "/Secret": secret,
  "/ConfigMap": configMap,
  "coordination.k8s.io/Lease": lease,
  [`${RBAC}/RoleBinding`]: binding,
  [`${RBAC}/ClusterRoleBinding`]: binding,
};
