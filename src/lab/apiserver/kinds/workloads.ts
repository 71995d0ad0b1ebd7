import { arrayAt, copyJson, equalJson, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { Cause } from "../status-error.ts";
import { invalidValue, required } from "../validation/metadata.ts";
import { forbiddenField, immutable, type KindStrategy, setDefaults } from "./kind.ts";
import { defaultPodSpec, validatePodSpec } from "./pod-spec.ts";

function specOf(object: KubeObject): JsonObject {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as JsonObject;
}

function defaultTemplate(spec: JsonObject): void {
  const { template } = spec;
  if (!isObject(template)) return;
  if (!isObject(template.metadata)) template.metadata = {};
  if (isObject(template.spec)) defaultPodSpec(template.spec);
}

function validateTemplate(object: KubeObject): Cause[] {
  const template = objectAt(object, "spec", "template");
  const selector = objectAt(object, "spec", "selector");
  const causes = validatePodSpec(objectAt(template, "spec"), "spec.template.spec", ["Always"]);
  if (Object.keys(selector).length === 0) return [...causes, required("spec.selector")];
  const labels = objectAt(template, "metadata", "labels");
  const matches = Object.entries(objectAt(selector, "matchLabels")).every(([key, value]) => labels[key] === value);
  if (matches) return causes;
  const rule = "`selector` does not match template `labels`";
  return [...causes, invalidValue("spec.template.metadata.labels", labels, rule)];
}

const fixedSelector = (object: KubeObject, old: KubeObject) => [
  ...validateTemplate(object),
  ...immutable("spec.selector", objectAt(object, "spec", "selector"), objectAt(old, "spec", "selector")),
];

const emptyStatus = (replicas: boolean) => (object: KubeObject) => {
  object.status = replicas ? { replicas: 0 } : {};
};

const deployment: KindStrategy = {
  applyDefaults: (object) => {
    const spec = specOf(object);
    setDefaults(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, strategy: {} });
    const strategy = objectAt(spec, "strategy");
    setDefaults(strategy, { type: "RollingUpdate" });
    if (strategy.type === "RollingUpdate") {
      setDefaults(strategy, { rollingUpdate: {} });
      setDefaults(objectAt(strategy, "rollingUpdate"), { maxUnavailable: "25%", maxSurge: "25%" });
    }
    defaultTemplate(spec);
  },
  prepareCreate: emptyStatus(false),
  validateCreate: validateTemplate,
  validateUpdate: fixedSelector,
};

const replicaSet: KindStrategy = {
  applyDefaults: (object) => {
    setDefaults(specOf(object), { replicas: 1 });
    defaultTemplate(specOf(object));
  },
  prepareCreate: emptyStatus(true),
  validateCreate: validateTemplate,
  validateUpdate: fixedSelector,
};

const daemonSet: KindStrategy = {
  applyDefaults: (object) => {
    const spec = specOf(object);
    setDefaults(spec, { revisionHistoryLimit: 10, updateStrategy: {} });
    const strategy = objectAt(spec, "updateStrategy");
    setDefaults(strategy, { type: "RollingUpdate" });
    if (strategy.type === "RollingUpdate") {
      setDefaults(strategy, { rollingUpdate: {} });
      setDefaults(objectAt(strategy, "rollingUpdate"), { maxUnavailable: 1, maxSurge: 0 });
    }
    defaultTemplate(spec);
  },
  prepareCreate: (object) => {
    object.status = { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 };
  },
  validateCreate: validateTemplate,
  validateUpdate: fixedSelector,
};

/** What of a StatefulSet may change. */
const STATEFUL_SET_MUTABLE = [
  "replicas",
  "ordinals",
  "template",
  "updateStrategy",
  "revisionHistoryLimit",
  "persistentVolumeClaimRetentionPolicy",
  "minReadySeconds",
];

const statefulSet: KindStrategy = {
  applyDefaults: (object) => {
    const spec = specOf(object);
    setDefaults(spec, {
      replicas: 1,
      podManagementPolicy: "OrderedReady",
      revisionHistoryLimit: 10,
      updateStrategy: {},
      persistentVolumeClaimRetentionPolicy: {},
    });
    const strategy = objectAt(spec, "updateStrategy");
    setDefaults(strategy, { type: "RollingUpdate" });
    if (strategy.type === "RollingUpdate") {
      setDefaults(strategy, { rollingUpdate: {} });
      setDefaults(objectAt(strategy, "rollingUpdate"), { partition: 0 });
    }
    const retention = objectAt(spec, "persistentVolumeClaimRetentionPolicy");
    setDefaults(retention, { whenDeleted: "Retain", whenScaled: "Retain" });
    for (const claim of arrayAt(spec, "volumeClaimTemplates").filter(isObject)) {
      setDefaults(claim, { apiVersion: "v1", kind: "PersistentVolumeClaim", spec: {}, status: { phase: "Pending" } });
      setDefaults(objectAt(claim, "spec"), { volumeMode: "Filesystem" });
    }
    defaultTemplate(spec);
  },
  prepareCreate: (object) => {
    object.status = { replicas: 0, availableReplicas: 0 };
  },
  validateCreate: validateTemplate,
  validateUpdate: (object, old) => {
    const fixed = (set: KubeObject) => {
      const spec = copyJson(objectAt(set, "spec"));
      for (const key of STATEFUL_SET_MUTABLE) delete spec[key];
      return spec;
    };
    if (equalJson(fixed(object), fixed(old))) return validateTemplate(object);
    const why =
      "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    return [forbiddenField("spec", why)];
  },
};

const validateJob = (job: KubeObject) =>
  validatePodSpec(objectAt(job, "spec", "template", "spec"), "spec.template.spec", ["OnFailure", "Never"]);

const job: KindStrategy = {
  applyDefaults: (object) => {
    const spec = specOf(object);
    if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1;
    setDefaults(spec, {
      parallelism: 1,
      backoffLimit: 6,
      completionMode: "NonIndexed",
      suspend: false,
      podReplacementPolicy: "TerminatingOrFailed",
    });
    defaultTemplate(spec);
  },
  prepareCreate: (object) => {
    object.status = {};
    const spec = specOf(object);
    if (spec.manualSelector === true) return;
    const { uid = "", name = "" } = object.metadata;
    const template = objectAt(spec, "template");
    const metadata = objectAt(template, "metadata");
    metadata.labels = {
      ...objectAt(metadata, "labels"),
      "batch.kubernetes.io/controller-uid": uid,
      "batch.kubernetes.io/job-name": name,
      "controller-uid": uid,
      "job-name": name,
    };
    spec.selector = { matchLabels: { "batch.kubernetes.io/controller-uid": uid } };
  },
  validateCreate: validateJob,
  validateUpdate: (object, old) => {
    const part = (set: KubeObject, key: string) => objectAt(set, "spec")[key];
    const fixed = ["selector", "completionMode", "template"].filter(
      (key) => key !== "template" || part(old, "suspend") !== true,
    );
    return [
      ...validateJob(object),
      ...fixed.flatMap((key) => immutable(`spec.${key}`, part(object, key), part(old, key))),
      ...(part(old, "completionMode") === "Indexed"
        ? []
        : immutable("spec.completions", part(object, "completions"), part(old, "completions"))),
    ];
  },
};

const cronJob: KindStrategy = {
  applyDefaults: (object) => {
    const spec = specOf(object);
    setDefaults(spec, {
      concurrencyPolicy: "Allow",
      suspend: false,
      successfulJobsHistoryLimit: 3,
      failedJobsHistoryLimit: 1,
    });
    defaultTemplate(objectAt(spec, "jobTemplate", "spec"));
  },
  prepareCreate: emptyStatus(false),
  validateCreate: (object) => (stringAt(object, "spec", "schedule") === "" ? [required("spec.schedule")] : []),
};

export const workloadStrategies: Readonly<Record<string, KindStrategy>> = {
  "apps/Deployment": deployment,
  "apps/ReplicaSet": replicaSet,
  "apps/DaemonSet": daemonSet,
  "apps/StatefulSet": statefulSet,
  "batch/Job": job,
  "batch/CronJob": cronJob,
};
