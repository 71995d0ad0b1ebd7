import { arrayAt, isObject, type JsonValue, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { Column } from "../registry/definition.ts";
import { ageColumn, ageOf, nameColumn } from "./columns.ts";
import { formatAge } from "./duration.ts";
import { podStatus, readyContainers, restarts } from "./pod-cells.ts";

/** The columns of `kubectl get` for a built-in kind, as the real server has them. */
export function columnsFor(_group: string, kind: string): readonly Column[] {
  // Events say what they are about; their names are digests.
  if (kind === "Event") return EVENT;
  const own = COLUMNS[kind] ?? [];
  return [kind === "StorageClass" ? storageClassName : nameColumn, ...own, ageColumn, ...(WIDE[kind] ?? [])];
}

type Cell = (object: KubeObject, now: number) => JsonValue;

function column(name: string, value: Cell, type: Column["type"] = "string", priority = 0): Column {
  return { name, type, priority, value };
}

function wide(name: string, value: Cell): Column {
  return column(name, value, "string", 1);
}

/** A string of the object, as a cell. */
function text(...path: readonly string[]): Cell {
  return (object) => stringAt(object, ...path) || "<none>";
}

function optional(...path: readonly string[]): Cell {
  return (object) => stringAt(object, ...path);
}

function numberOf(object: KubeObject, ...path: readonly string[]): number {
  const parent = objectAt(object, ...path.slice(0, -1));
  const found = parent[path.at(-1) ?? ""];
  return typeof found === "number" ? found : 0;
}

const ACCESS: Readonly<Record<string, string>> = {
  ReadWriteOnce: "RWO",
  ReadOnlyMany: "ROX",
  ReadWriteMany: "RWX",
  ReadWriteOncePod: "RWOP",
};

function accessModes(...path: readonly string[]): Cell {
  return (object) =>
    arrayAt(object, ...path)
      .map((mode) => ACCESS[String(mode)] ?? String(mode))
      .join(",");
}

const phase: Cell = (object) =>
  object.metadata.deletionTimestamp === undefined ? stringAt(object, "status", "phase") : "Terminating";

const jobDuration: Cell = (object, now) => {
  const start = Date.parse(stringAt(object, "status", "startTime"));
  const end = Date.parse(stringAt(object, "status", "completionTime"));
  return Number.isNaN(start) ? "" : formatAge((Number.isNaN(end) ? now : end) - start);
};

const jobStatus: Cell = (object) => {
  const conditions = arrayAt(object, "status", "conditions").filter(isObject);
  const isTrue = (type: string) =>
    conditions.some((condition) => condition.type === type && condition.status === "True");
  if (isTrue("Complete")) return "Complete";
  if (isTrue("Failed")) return "Failed";
  return object.metadata.deletionTimestamp === undefined ? "Running" : "Terminating";
};

const nodeStatus: Cell = (object) => {
  const ready = arrayAt(object, "status", "conditions")
    .filter(isObject)
    .find(({ type }) => type === "Ready");
  return ready?.status === "True" ? "Ready" : "NotReady";
};

const ports: Cell = (object) =>
  arrayAt(object, "spec", "ports")
    .filter(isObject)
    .map(({ port, protocol }) => `${String(port)}/${String(protocol ?? "TCP")}`)
    .join(",") || "<none>";

const dataCount: Cell = (object) => Object.keys(objectAt(object, "data")).length;

const COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  Pod: [column("Ready", readyContainers), column("Status", podStatus), column("Restarts", restarts)],
  Namespace: [column("Status", phase)],
  Node: [column("Status", nodeStatus), column("Roles", () => "<none>")],
  PersistentVolumeClaim: [
    column("Status", phase),
    column("Volume", optional("spec", "volumeName")),
    column("Capacity", optional("status", "capacity", "storage")),
    column("Access Modes", accessModes("status", "accessModes")),
    column("StorageClass", optional("spec", "storageClassName")),
  ],
  PersistentVolume: [
    column("Capacity", optional("spec", "capacity", "storage")),
    column("Access Modes", accessModes("spec", "accessModes")),
    column("Reclaim Policy", optional("spec", "persistentVolumeReclaimPolicy")),
    column("Status", phase),
    column("Claim", (object) => {
      const { namespace, name } = objectAt(object, "spec", "claimRef");
      return name === undefined ? "" : `${String(namespace)}/${String(name)}`;
    }),
    column("StorageClass", optional("spec", "storageClassName")),
  ],
  Service: [
    column("Type", text("spec", "type")),
    column("Cluster-IP", text("spec", "clusterIP")),
    column("External-IP", () => "<none>"),
    column("Port(s)", ports),
  ],
  Secret: [column("Type", text("type")), column("Data", dataCount, "integer")],
  ConfigMap: [column("Data", dataCount, "integer")],
  Job: [
    column("Status", jobStatus),
    column("Completions", (object) => {
      const wanted = numberOf(object, "spec", "completions") || 1;
      return `${numberOf(object, "status", "succeeded")}/${wanted}`;
    }),
    column("Duration", jobDuration),
  ],
  StatefulSet: [
    column(
      "Ready",
      (object) => `${numberOf(object, "status", "readyReplicas")}/${numberOf(object, "spec", "replicas")}`,
    ),
  ],
  StorageClass: [
    column("Provisioner", text("provisioner")),
    column("ReclaimPolicy", text("reclaimPolicy")),
    column("VolumeBindingMode", text("volumeBindingMode")),
    column("AllowVolumeExpansion", (object) => String(object.allowVolumeExpansion === true)),
  ],
  Lease: [column("Holder", optional("spec", "holderIdentity"))],
};

const WIDE: Readonly<Record<string, readonly Column[]>> = {
  Pod: [wide("IP", text("status", "podIP")), wide("Node", text("spec", "nodeName"))],
  PersistentVolumeClaim: [wide("VolumeMode", optional("spec", "volumeMode"))],
  PersistentVolume: [wide("VolumeMode", optional("spec", "volumeMode"))],
};

const storageClassName: Column = {
  ...nameColumn,
  value: (object) => {
    const isDefault = object.metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true";
    return `${object.metadata.name ?? ""}${isDefault ? " (default)" : ""}`;
  },
};

const EVENT: readonly Column[] = [
  column("Last Seen", (object, now) => {
    const time = stringAt(object, "lastTimestamp") || stringAt(object, "eventTime");
    return ageOf(time === "" ? object.metadata.creationTimestamp : time, now);
  }),
  column("Type", optional("type")),
  column("Reason", optional("reason")),
  column("Object", (object) => {
    const { kind, name } = objectAt(object, object.involvedObject === undefined ? "regarding" : "involvedObject");
    return `${String(kind ?? "").toLowerCase()}/${String(name ?? "")}`;
  }),
  column("Message", (object) => (stringAt(object, "message") || stringAt(object, "note")).trim()),
  { ...nameColumn, priority: 1 },
];
