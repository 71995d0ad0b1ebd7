import { REPOSITORY_FILES } from "../api/agent-config.ts";
import { type Inspection, type InspectionRequest, inspection } from "../api/inspection.ts";
import type { RepositoryMount } from "./backup-repository/mount.ts";
import type { Job, Pod } from "./kinds.ts";
import { failureOf } from "./pod-failure.ts";
import type { Manifest } from "./runtime/objects.ts";
import { CONTAINER_SECURITY, type OperatorSettings, POD_SECURITY } from "./settings.ts";

const RESULT_PATH = "/dev/termination-log";
const MOUNTS = { repository: "/repository", credentials: "/etc/vmrestore/repository" } as const;
const ATTEMPT_SECONDS = 600;

/** What every pod that reads a repository is given. */
export interface RepositoryPodParts {
  readonly args: string[];
  readonly volumes: object[];
  readonly volumeMounts: object[];
  /** Fields of the pod's spec. */
  readonly identity: { readonly serviceAccountName?: string };
}

/**
 * How a pod reaches a repository. Everything secret comes as files; arguments say where they are.
 *
 * @param index 0, or from 1 on that of a further repository of the same pod
 */
export function repositoryAccess(mount: RepositoryMount, index = 0): RepositoryPodParts {
  const suffix = index === 0 ? "" : `-${index}`;
  const name = `repository${suffix}`;
  const place = `${MOUNTS.repository}${suffix}`;
  const files = `${MOUNTS.credentials}${suffix}`;
  const option = (what: string, path: string): string[] =>
    index === 0 ? [`--repository-${what}`, path] : [`--other-repository-${what}`, `${index}=${path}`];
  const secret = { secretName: mount.secretName, defaultMode: 0o440 };
  const password = option("password-file", `${files}/${REPOSITORY_FILES.password}`);
  const volumes: object[] = [{ name: `${name}-credentials`, secret }];
  const volumeMounts: object[] = [{ name: `${name}-credentials`, mountPath: files, readOnly: true }];
  const { claimName, path, serviceAccountName } = mount;
  if (claimName === undefined) {
    return {
      args: [...password, ...option("credentials-dir", files)],
      volumes,
      volumeMounts,
      identity: serviceAccountName === undefined ? {} : { serviceAccountName },
    };
  }
  const directory = path === undefined ? place : `${place}/${path}`;
  return {
    args: [...option("dir", directory), ...password],
    volumes: [{ name, persistentVolumeClaim: { claimName } }, ...volumes],
    volumeMounts: [{ name, mountPath: place }, ...volumeMounts],
    identity: {},
  };
}

/** JSON as an argument; without the sign that begins a variable there. */
function jsonArgument(value: unknown): string {
  return JSON.stringify(value).replaceAll("$", "\\u0024");
}

/** A Job that looks into a repository and tells what it found as its termination message. */
export function inspectionJob(options: {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly annotations: Record<string, string>;
  readonly mount: RepositoryMount;
  readonly selector?: InspectionRequest;
  readonly settings: OperatorSettings;
}): Manifest {
  const { name, labels, annotations, mount, selector, settings } = options;
  const access = repositoryAccess(mount);
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace: settings.namespace, labels, annotations },
    spec: {
      backoffLimit: 0,
      activeDeadlineSeconds: ATTEMPT_SECONDS,
      template: {
        metadata: { labels: { ...labels, "app.kubernetes.io/name": "vmrestore-inspection" } },
        spec: {
          restartPolicy: "Never",
          ...access.identity,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: POD_SECURITY,
          containers: [
            {
              name: "inspect",
              image: settings.image,
              command: ["vmrestore", "inspect"],
              args: [
                ...access.args,
                ...(mount.claimName === undefined ? ["--repository", jsonArgument(mount.backend)] : []),
                ...(selector === undefined ? [] : ["--selector", jsonArgument(selector)]),
                "--result",
                RESULT_PATH,
              ],
              terminationMessagePath: RESULT_PATH,
              terminationMessagePolicy: "File",
              securityContext: CONTAINER_SECURITY,
              resources: { requests: { cpu: "100m", memory: "128Mi" } },
              volumeMounts: access.volumeMounts,
            },
          ],
          volumes: access.volumes,
        },
      },
    },
  };
}

export type InspectionOutcome =
  | { readonly state: "Running"; readonly message: string }
  | { readonly state: "Done"; readonly result: Inspection }
  | { readonly state: "Lost"; readonly message: string };

/** What became of an inspection. `Lost`: it ended without telling anything. */
export function inspectionOutcome(job: Job, pods: readonly Pod[]): InspectionOutcome {
  // Pods of an earlier Job of the same name may still be there.
  const own = pods.filter(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === job.metadata.uid));
  for (const pod of own) {
    const ended = pod.status?.containerStatuses?.find(({ name }) => name === "inspect")?.state?.terminated;
    if (ended === undefined) continue;
    const told = parseResult(ended.message);
    if (told !== undefined) return { state: "Done", result: told };
    return { state: "Lost", message: `the inspection ended with code ${ended.exitCode} and told nothing` };
  }
  const failed = job.status?.conditions?.find(({ type, status }) => type === "Failed" && status === "True");
  if (failed !== undefined) {
    return { state: "Lost", message: `the inspection failed: ${failed.message ?? failed.reason ?? "no reason given"}` };
  }
  if ((job.status?.succeeded ?? 0) > 0) return { state: "Lost", message: "the inspection's pod is gone" };
  return { state: "Running", message: podTrouble(own) ?? "the backup is being looked at" };
}

/** The result comes from a pod that reads hostile data: only what has the right shape is believed. */
function parseResult(message: string | undefined): Inspection | undefined {
  try {
    return inspection.safeParse(JSON.parse(message ?? "")).data;
  } catch {
    return undefined;
  }
}

/** Why pods do not run, in the words of the scheduler or the kubelet. */
export function podTrouble(pods: readonly Pod[]): string | undefined {
  for (const pod of pods) {
    const unschedulable = pod.status?.conditions?.find(
      ({ type, status }) => type === "PodScheduled" && status === "False",
    );
    if (unschedulable?.message !== undefined) return `pod ${pod.metadata.name}: ${unschedulable.message}`;
    for (const { state } of pod.status?.containerStatuses ?? []) {
      const waiting = state?.waiting;
      if (waiting?.reason === undefined || waiting.reason === "ContainerCreating") continue;
      const failure = failureOf([pod]);
      if (failure !== undefined) return `pod ${pod.metadata.name} failed and is started again: ${failure}`;
      return `pod ${pod.metadata.name}: ${waiting.reason}${waiting.message === undefined ? "" : `: ${waiting.message}`}`;
    }
  }
  return undefined;
}
