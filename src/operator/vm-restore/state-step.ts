import { create, remove, removeIfThere } from "../actions.ts";
import { JOBS, SECRETS } from "../kinds.ts";
import { TELL_FAILURE } from "../pod-failure.ts";
import type { Manifest } from "../runtime/objects.ts";
import { CONTAINER_SECURITY, POD_SECURITY } from "../settings.ts";
import { readKeys, tlsSecret } from "./keys.ts";
import { restoreLabels, restoreNames, stateClaimName } from "./names.ts";
import type { Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { no, type Outcome, passed, waits } from "./step.ts";

const CREATED = "VirtualMachineCreated";
const TLS_DIRECTORY = "/etc/vmrestore/tls";
const STATE_DIRECTORY = "/state";
/** A Job that gave up is replaced so long after it was made. */
const RETRY_MS = 60_000;
const RESTORING = no(CREATED, "RestoringState", "The machine's TPM and firmware state is being put onto its claim.");

/** Whether the snapshot holds files for the claim. A manifest from elsewhere has none: they would be another machine's. */
export function carriesState({ agent, spec }: Pick<Observed, "agent" | "spec">): boolean {
  return spec.virtualMachine.manifest.from === "Snapshot" && agent.stateFiles.length > 0;
}

/**
 * Puts TPM and firmware state onto the claim before the machine's first start, by a Job beside the claim: a guest that sealed its
 * disk's key to its TPM cannot begin with another one. Job → done → that it is done → Job gone → machine, each seen before the next.
 */
export function restoreState(observed: Observed, plan: Plan): Outcome {
  const { restore, now, stateJob: job, stateSecret: secret } = observed;
  const machine = restore.status?.machine;
  const done = machine?.stateRestored === true;
  if (done) {
    if (job === undefined && secret === undefined) return passed();
    return {
      ...waits(RESTORING, 500),
      actions: [...removeIfThere(JOBS, job), ...removeIfThere(SECRETS, secret)],
    };
  }
  if (secret === undefined || job === undefined) return { ...waits(RESTORING, 500), actions: makeJob(observed, plan) };
  if ((job.status?.succeeded ?? 0) > 0)
    return { ...waits(RESTORING, 0), status: { machine: { ...machine, stateRestored: true } } };
  const failed = job.status?.conditions?.find(({ type, status }) => type === "Failed" && status === "True");
  // A watch tells when it is done.
  if (failed === undefined) return waits(RESTORING, 10_000);
  const why = failed.message ?? failed.reason ?? "no reason given";
  const message = `The machine's TPM and firmware state cannot be put onto its claim (${why}); it is tried again. See Job ${job.metadata.name}.`;
  const isOld = now - Date.parse(job.metadata.creationTimestamp ?? "") > RETRY_MS;
  return { ...waits(no(CREATED, "StateNotRestored", message), 5000), actions: isOld ? [remove(JOBS, job)] : [] };
}

function makeJob(observed: Observed, plan: Plan) {
  const { restore, keys, stateJob, stateSecret } = observed;
  if (keys === undefined) return [];
  const { ca, relocation } = readKeys(keys);
  const names = restoreNames(restore, plan.machine);
  const namespace = restore.metadata.namespace ?? "";
  return [
    ...(stateSecret === undefined
      ? [create(SECRETS, tlsSecret(names.stateJob, namespace, restoreLabels(restore), ca, relocation))]
      : []),
    ...(stateJob === undefined ? [create(JOBS, jobOf(observed, plan))] : []),
  ];
}

function jobOf({ restore, spec, service, settings }: Observed, plan: Plan): Manifest {
  const names = restoreNames(restore, plan.machine);
  const labels = restoreLabels(restore);
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: names.stateJob, namespace: restore.metadata.namespace ?? "", labels },
    spec: {
      backoffLimit: 3,
      template: {
        metadata: { labels: { ...labels, "app.kubernetes.io/name": "vmrestore-state" } },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: POD_SECURITY,
          containers: [
            {
              name: "restore-state",
              image: settings.image,
              command: ["vmrestore", "restore-state"],
              args: [
                ...["--agent", service?.spec?.clusterIP ?? ""],
                ...["--tls-dir", TLS_DIRECTORY, "--into", STATE_DIRECTORY],
                ...["--backed-up-as", plan.backedUpAs ?? plan.machine, "--machine", plan.machine],
              ],
              ...TELL_FAILURE,
              securityContext: CONTAINER_SECURITY,
              resources: { requests: { cpu: "50m", memory: "64Mi" } },
              volumeMounts: [
                { name: "tls", mountPath: TLS_DIRECTORY, readOnly: true },
                { name: "state", mountPath: STATE_DIRECTORY },
              ],
            },
          ],
          volumes: [
            { name: "tls", secret: { secretName: names.stateJob, defaultMode: 0o440 } },
            { name: "state", persistentVolumeClaim: { claimName: stateClaimName(restore, spec) } },
          ],
        },
      },
    },
  };
}
