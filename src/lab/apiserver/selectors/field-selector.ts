import { at } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import { badRequest } from "../status-error.ts";

const EVENT_FIELDS = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/** Fields that can be selected besides metadata.name and metadata.namespace, by the kind they belong to. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  "/Pod": [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
  ],
  "/Event": [
    ...EVENT_FIELDS.map((field) => `involvedObject.${field}`),
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  "events.k8s.io/Event": [
    ...EVENT_FIELDS.map((field) => `regarding.${field}`),
    "reason",
    "reportingController",
    "type",
  ],
  "/Namespace": ["status.phase"],
  "/Node": ["spec.unschedulable"],
  "/Secret": ["type"],
  "/Service": ["spec.clusterIP", "spec.type"],
  "/ReplicationController": ["status.replicas"],
  "apps/ReplicaSet": ["status.replicas"],
  "batch/Job": ["status.successful"],
};

/** What an absent field counts as, where that is not "". */
const ABSENT: Readonly<Record<string, string>> = {
  "spec.unschedulable": "false",
  "spec.hostNetwork": "false",
  "status.successful": "0",
  "status.replicas": "0",
};

/** Fields whose name in a selector is not their path. */
const PATHS: Readonly<Record<string, readonly string[]>> = {
  source: ["source", "component"],
  "status.successful": ["status", "succeeded"],
};

/**
 * A field selector as it stands in a query: `field=value`, `field==value`, `field!=value`, joined by commas.
 *
 * @param extra paths that the kind's CRD lets clients select (`.spec.color`)
 * @throws StatusError BadRequest for a field that can't be selected
 */
export function parseFieldSelector(text: string, definition: ResourceDefinition): (object: KubeObject) => boolean {
  const terms = text.split(",").filter((term) => term.trim() !== "");
  const checks = terms.map((term) => {
    const match = /^\s*([^!=\s]+)\s*(!=|==|=)\s*(.*?)\s*$/.exec(term);
    const [, field = "", operator, value = ""] = match ?? [];
    if (match === null) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`);
    const selectable = FIELDS[`${definition.group}/${definition.kind}`] ?? [];
    if (field !== "metadata.name" && field !== "metadata.namespace" && !selectable.includes(field)) {
      throw badRequest(
        `Unable to find "${definition.resource}" that match label selector "", field selector "${text}": field label not supported: ${field}`,
      );
    }
    const path = PATHS[field] ?? field.split(".");
    return (object: KubeObject) => (fieldText(object, field, path) === value) === (operator !== "!=");
  });
  return (object) => checks.every((check) => check(object));
}

function fieldText(object: KubeObject, field: string, path: readonly string[]): string {
  const value = at(object, ...path);
  return value === undefined || value === null ? (ABSENT[field] ?? "") : String(value);
}
