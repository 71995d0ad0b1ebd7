import { arrayAt, at, copyJson, equalJson, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { quantityValue } from "../schema/quantity.ts";
import type { Cause } from "../status-error.ts";
import type { Store } from "../store/store.ts";
import { required } from "../validation/metadata.ts";
import { forbiddenField, immutable, type KindStrategy, setDefaults, unsupported } from "./kind.ts";

const ACCESS_MODES = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";
/** Fields of a PersistentVolume's spec that do not say where its data is. */
const NOT_SOURCES = [
  "accessModes",
  "capacity",
  "claimRef",
  "mountOptions",
  "nodeAffinity",
  "persistentVolumeReclaimPolicy",
  "storageClassName",
  "volumeAttributesClassName",
  "volumeMode",
];

function addFinalizer(object: KubeObject, name: string): void {
  const finalizers = object.metadata.finalizers ?? [];
  if (!finalizers.includes(name)) object.metadata.finalizers = [...finalizers, name];
}

function validateAccessModes(object: KubeObject): Cause[] {
  const modes = arrayAt(object, "spec", "accessModes");
  if (modes.length === 0) return [required("spec.accessModes", "at least 1 access mode is required")];
  return modes
    .filter((mode) => typeof mode !== "string" || !ACCESS_MODES.includes(mode))
    .map((mode) => unsupported("spec.accessModes", mode, ACCESS_MODES));
}

const claim: KindStrategy = {
  applyDefaults: (object) => {
    object.spec = objectAt(object, "spec");
    setDefaults(object.spec, { volumeMode: "Filesystem" });
  },
  prepareCreate: (object, store) => {
    object.status = { phase: "Pending" };
    addFinalizer(object, "kubernetes.io/pvc-protection");
    const spec = objectAt(object, "spec");
    const className = spec.storageClassName === undefined ? defaultClass(store) : undefined;
    if (className !== undefined) spec.storageClassName = className;
  },
  validateCreate: (object) => {
    const size = at(object, "spec", "resources", "requests", "storage");
    return [...validateAccessModes(object), ...(size === undefined ? [required("spec.resources[storage]")] : [])];
  },
  validateUpdate: validateClaimUpdate,
};

/** The newest StorageClass that is marked as the default. */
function defaultClass(store: Store): string | undefined {
  const classes = store
    .list("storage.k8s.io/storageclasses")
    .filter(({ metadata }) => metadata.annotations?.[DEFAULT_CLASS] === "true");
  const newest = classes.sort((a, b) => Number(b.metadata.resourceVersion) - Number(a.metadata.resourceVersion))[0];
  return newest?.metadata.name;
}

function validateClaimUpdate(object: KubeObject, old: KubeObject): Cause[] {
  const fixed = (spec: JsonObject): JsonObject => {
    const copy = copyJson(spec);
    delete copy.volumeAttributesClassName;
    // A binder may choose volume and class where none is chosen yet.
    if (stringAt(old, "spec", "volumeName") === "") delete copy.volumeName;
    if (at(old, "spec", "storageClassName") === undefined) delete copy.storageClassName;
    if (isObject(copy.resources)) delete copy.resources.requests;
    return copy;
  };
  const isBound = stringAt(old, "status", "phase") === "Bound" || stringAt(old, "spec", "volumeName") !== "";
  const size = (claimed: KubeObject) => at(claimed, "spec", "resources", "requests", "storage");
  const hasNewSize = !equalJson(size(object) ?? null, size(old) ?? null);
  if (!equalJson(fixed(objectAt(object, "spec")), fixed(objectAt(old, "spec"))) || (hasNewSize && !isBound)) {
    const why =
      "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    return [forbiddenField("spec", why)];
  }
  const [wanted, had] = [quantity(size(object)), quantity(size(old))];
  if (wanted >= had) return [];
  const capacity = quantity(at(old, "status", "capacity", "storage"));
  if (wanted >= capacity && capacity > 0n) return [];
  return [forbiddenField("spec.resources.requests.storage", "field can not be less than status.capacity")];
}

const quantity = (value: ReturnType<typeof at>) => (typeof value === "string" ? (quantityValue(value) ?? 0n) : 0n);

function sourcesOf(volume: KubeObject): JsonObject {
  const spec = copyJson(objectAt(volume, "spec"));
  for (const key of NOT_SOURCES) delete spec[key];
  return spec;
}

const validateVolume = (volume: KubeObject): Cause[] => {
  const causes = validateAccessModes(volume);
  if (at(volume, "spec", "capacity", "storage") === undefined) causes.push(required("spec.capacity"));
  const sources = Object.keys(sourcesOf(volume));
  if (sources.length === 0) causes.push(required("spec", "must specify a volume type"));
  for (const key of sources.slice(1)) {
    causes.push(forbiddenField(`spec.${key}`, "may not specify more than 1 volume type"));
  }
  return causes;
};

const volume: KindStrategy = {
  applyDefaults: (object) => {
    object.spec = objectAt(object, "spec");
    setDefaults(object.spec, { persistentVolumeReclaimPolicy: "Retain", volumeMode: "Filesystem" });
    const { claimRef, hostPath } = object.spec;
    if (isObject(claimRef)) setDefaults(claimRef, { apiVersion: "v1", kind: "PersistentVolumeClaim" });
    if (isObject(hostPath)) setDefaults(hostPath, { type: "" });
  },
  prepareCreate: (object) => {
    object.status = { phase: "Pending" };
    addFinalizer(object, "kubernetes.io/pv-protection");
  },
  validateCreate: validateVolume,
  validateUpdate: (object, old) => {
    const why = "spec.persistentvolumesource is immutable after creation";
    const causes = equalJson(sourcesOf(object), sourcesOf(old))
      ? []
      : [forbiddenField("spec.persistentvolumesource", why)];
    const mode = (set: KubeObject) => at(set, "spec", "volumeMode");
    return [...validateVolume(object), ...causes, ...immutable("spec.volumeMode", mode(object), mode(old))];
  },
};

const storageClass: KindStrategy = {
  applyDefaults: (object) => setDefaults(object, { reclaimPolicy: "Delete", volumeBindingMode: "Immediate" }),
  validateCreate: (object) => (stringAt(object, "provisioner") === "" ? [required("provisioner")] : []),
  validateUpdate: (object, old) => [
    ...(equalJson(object.parameters ?? {}, old.parameters ?? {})
      ? []
      : [forbiddenField("parameters", "updates to parameters are forbidden.")]),
    ...(object.provisioner === old.provisioner
      ? []
      : [forbiddenField("provisioner", "updates to provisioner are forbidden.")]),
    ...(object.reclaimPolicy === old.reclaimPolicy
      ? []
      : [forbiddenField("reclaimPolicy", "updates to reclaimPolicy are forbidden.")]),
    ...immutable("volumeBindingMode", object.volumeBindingMode, old.volumeBindingMode),
  ],
};

export const storageStrategies: Readonly<Record<string, KindStrategy>> = {
  "/PersistentVolumeClaim": claim,
  "/PersistentVolume": volume,
  "storage.k8s.io/StorageClass": storageClass,
};
