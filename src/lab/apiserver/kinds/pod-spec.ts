import { arrayAt, at, isObject, type JsonObject, objectAt, stringAt } from "../json.ts";
import type { Cause } from "../status-error.ts";
import { invalidValue, required } from "../validation/metadata.ts";
import { setDefaults, unsupported } from "./kind.ts";

const CONTAINER_LISTS = ["initContainers", "containers", "ephemeralContainers"];
const PROBES = ["livenessProbe", "readinessProbe", "startupProbe"];
/** 0644. */
const FILE_MODE = 420;

/** The defaults of a pod's spec, also in a template. */
export function defaultPodSpec(spec: JsonObject): void {
  setDefaults(spec, {
    restartPolicy: "Always",
    dnsPolicy: "ClusterFirst",
    schedulerName: "default-scheduler",
    securityContext: {},
    terminationGracePeriodSeconds: 30,
  });
  for (const list of CONTAINER_LISTS)
    for (const container of arrayAt(spec, list)) if (isObject(container)) defaultContainer(container);
  for (const volume of arrayAt(spec, "volumes")) if (isObject(volume)) defaultVolume(volume);
}

function defaultContainer(container: JsonObject): void {
  setDefaults(container, {
    terminationMessagePath: "/dev/termination-log",
    terminationMessagePolicy: "File",
    resources: {},
  });
  if (stringAt(container, "imagePullPolicy") === "" && stringAt(container, "image") !== "") {
    container.imagePullPolicy = isLatest(stringAt(container, "image")) ? "Always" : "IfNotPresent";
  }
  const { resources } = container;
  if (isObject(resources) && isObject(resources.limits)) {
    resources.requests = { ...resources.limits, ...objectAt(resources, "requests") };
  }
  for (const env of arrayAt(container, "env")) {
    const fieldRef = at(env, "valueFrom", "fieldRef");
    if (isObject(fieldRef)) setDefaults(fieldRef, { apiVersion: "v1" });
  }
  for (const name of PROBES) {
    const probe = container[name];
    if (!isObject(probe)) continue;
    setDefaults(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
    if (isObject(probe.httpGet)) setDefaults(probe.httpGet, { path: "/", scheme: "HTTP" });
  }
}

/** No tag counts as `latest`; a digest never does. */
function isLatest(image: string): boolean {
  if (image.includes("@")) return false;
  const name = image.slice(image.lastIndexOf("/") + 1);
  return !name.includes(":") || name.endsWith(":latest");
}

function defaultVolume(volume: JsonObject): void {
  const sources = Object.keys(volume).filter((key) => key !== "name");
  if (sources.length === 0) volume.emptyDir = {};
  for (const key of ["secret", "configMap", "downwardAPI", "projected"]) {
    const source = volume[key];
    if (isObject(source)) setDefaults(source, { defaultMode: FILE_MODE });
  }
  if (isObject(volume.hostPath)) setDefaults(volume.hostPath, { type: "" });
}

/** What pod validation catches that people run into. @param path e.g. `spec` or `spec.template.spec` */
export function validatePodSpec(spec: JsonObject, path: string, restartPolicies: readonly string[]): Cause[] {
  const causes: Cause[] = [];
  const policy = stringAt(spec, "restartPolicy");
  if (!restartPolicies.includes(policy)) causes.push(unsupported(`${path}.restartPolicy`, policy, restartPolicies));
  if (arrayAt(spec, "containers").length === 0) causes.push(required(`${path}.containers`));
  const volumes = new Set<string>();
  for (const [index, volume] of arrayAt(spec, "volumes").entries()) {
    const name = stringAt(volume, "name");
    const field = `${path}.volumes[${index}].name`;
    if (name === "") causes.push(required(field));
    else if (volumes.has(name))
      causes.push({ reason: "FieldValueDuplicate", message: `Duplicate value: "${name}"`, field });
    volumes.add(name);
  }
  const names = new Set<string>();
  for (const list of ["initContainers", "containers"]) {
    for (const [index, container] of arrayAt(spec, list).entries()) {
      if (isObject(container))
        causes.push(...validateContainer(container, `${path}.${list}[${index}]`, names, volumes));
    }
  }
  return causes;
}

function validateContainer(
  container: JsonObject,
  path: string,
  names: Set<string>,
  volumes: ReadonlySet<string>,
): Cause[] {
  const causes: Cause[] = [];
  const name = stringAt(container, "name");
  if (name === "") causes.push(required(`${path}.name`));
  else if (names.has(name)) {
    causes.push({ reason: "FieldValueDuplicate", message: `Duplicate value: "${name}"`, field: `${path}.name` });
  } else if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) {
    causes.push(
      invalidValue(
        `${path}.name`,
        name,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'",
      ),
    );
  }
  names.add(name);
  if (stringAt(container, "image") === "") causes.push(required(`${path}.image`));
  for (const [list, key] of [
    ["volumeMounts", "mountPath"],
    ["volumeDevices", "devicePath"],
  ] as const) {
    for (const [index, mount] of arrayAt(container, list).entries()) {
      const volume = stringAt(mount, "name");
      if (!volumes.has(volume)) {
        const message = `Not found: "${volume}"`;
        causes.push({ reason: "FieldValueNotFound", message, field: `${path}.${list}[${index}].name` });
      }
      if (stringAt(mount, key) === "") causes.push(required(`${path}.${list}[${index}].${key}`));
    }
  }
  for (const [index, variable] of arrayAt(container, "env").entries()) {
    if (stringAt(variable, "name") === "") causes.push(required(`${path}.env[${index}].name`));
  }
  return causes;
}
