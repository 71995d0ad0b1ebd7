import { type Action, create, remove, removeIfThere } from "../actions.ts";
import { sentence } from "../backup-repository/decide.ts";
import { podTrouble } from "../inspection-job.ts";
import { JOBS, SECRETS, type VirtualMachine } from "../kinds.ts";
import { TELL_FAILURE } from "../pod-failure.ts";
import { type Manifest, stands } from "../runtime/objects.ts";
import { CONTAINER_SECURITY, POD_SECURITY } from "../settings.ts";
import { readKeys, tlsSecret } from "./keys.ts";
import { at } from "./manifest/shape.ts";
import { restoreLabels, restoreNames, stateClaimName } from "./names.ts";
import type { Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { legacyUuid } from "./recreate.ts";
import { keptManifest } from "./replaced-manifest.ts";
import { no, type Outcome, passed, waits } from "./step.ts";

const CREATED = "VirtualMachineCreated";
const TLS_DIRECTORY = "/etc/vmrestore/tls";
const STATE_DIRECTORY = "/state";
const OLD_STATE_DIRECTORY = "/old-state";
/** A Job that gave up is replaced so long after it was made. */
const RETRY_MS = 60_000;
const RESTORING = no(CREATED, "RestoringState", "The machine's TPM and firmware state is being put onto its claim.");

/** Whether the snapshot holds files for the claim. A manifest from elsewhere has none: they would be another machine's. */
export function carriesState({ agent, spec }: Pick<Observed, "agent" | "spec">): boolean {
  return spec.virtualMachine.manifest.from === "Snapshot" && agent.stateFiles.length > 0;
}

/**
 * The claim that the old machine's state is copied from where a machine takes its place: the backup holds none, both machines have the
 * same firmware UUID, under which swtpm keeps its files, and there is one such claim. Undefined where nothing is copied.
 *
 * @param made the machine that is about to be made
 */
export function stateToCopy(observed: Observed, made: VirtualMachine): string | undefined {
  const { old } = observed;
  if (old?.secret === undefined || carriesState(observed)) return undefined;
  const kept = at(keptManifest(old.secret), "spec", "template", "spec", "domain", "firmware").uuid;
  const uuid = typeof kept === "string" ? kept : legacyUuid(made.metadata.name);
  if (at(made.spec?.template, "spec", "domain", "firmware").uuid !== uuid) return undefined;
  const [claim, other] = old.setAside.filter(stands);
  return other === undefined ? claim?.metadata.name : undefined;
}

/**
 * Puts TPM and firmware state onto the claim before the machine's first start, by a Job beside the claim: a guest that sealed its
 * disk's key to its TPM cannot begin with another one. Job → done → that it is done → Job and its pods gone → machine, each seen before the next.
 *
 * @param from the claim to copy it from; undefined for what the backup holds, which the agent gives
 */
export function restoreState(observed: Observed, plan: Plan, from?: string): Outcome {
  const { restore, now, stateJob: job, stateSecret: secret, statePods } = observed;
  const machine = restore.status?.machine;
  const done = machine?.stateRestored === true;
  if (done) {
    // A Job is gone before its pods are.
    if (job === undefined && secret === undefined && statePods.length === 0) return passed();
    return {
      ...waits(RESTORING, 500),
      actions: [...removeIfThere(JOBS, job), ...removeIfThere(SECRETS, secret)],
    };
  }
  const making = from === undefined ? fromBackup(observed, plan) : fromClaim(observed, plan, from);
  if (making.length > 0) return { ...waits(RESTORING, 500), actions: making };
  if (job === undefined) return waits(RESTORING, 500);
  if ((job.status?.succeeded ?? 0) > 0)
    return { ...waits(RESTORING, 0), status: { machine: { ...machine, stateRestored: true } } };
  const failed = job.status?.conditions?.find(({ type, status }) => type === "Failed" && status === "True");
  if (failed === undefined) {
    const trouble = podTrouble(observed.statePods);
    const waiting = sentence(`The machine's TPM and firmware state is being put onto its claim, and waits: ${trouble}`);
    // A watch tells when it is done.
    return waits(trouble === undefined ? RESTORING : no(CREATED, "RestoringState", waiting), 10_000);
  }
  const why = failed.message ?? failed.reason ?? "no reason given";
  const message = `The machine's TPM and firmware state cannot be put onto its claim (${why}); it is tried again. See Job ${job.metadata.name}.`;
  const isOld = now - Date.parse(job.metadata.creationTimestamp ?? "") > RETRY_MS;
  return { ...waits(no(CREATED, "StateNotRestored", message), 5000), actions: isOld ? [remove(JOBS, job)] : [] };
}

function fromClaim(observed: Observed, plan: Plan, claimName: string): Action[] {
  if (observed.stateJob !== undefined) return [];
  const old = { name: "old", persistentVolumeClaim: { claimName, readOnly: true } };
  const job = jobOf(observed, plan, {
    args: ["copy-state", "--from", OLD_STATE_DIRECTORY, "--into", STATE_DIRECTORY],
    mount: { name: "old", mountPath: OLD_STATE_DIRECTORY, readOnly: true },
    volume: old,
  });
  return [create(JOBS, job)];
}

function fromBackup(observed: Observed, plan: Plan): Action[] {
  const { restore, service, keys, stateJob, stateSecret } = observed;
  if (keys === undefined) return [];
  const { ca, relocation } = readKeys(keys);
  const names = restoreNames(restore, plan.machine);
  const namespace = restore.metadata.namespace ?? "";
  const source: StateSource = {
    args: [
      ...["restore-state", "--agent", service?.spec?.clusterIP ?? ""],
      ...["--tls-dir", TLS_DIRECTORY, "--into", STATE_DIRECTORY],
      ...["--backed-up-as", plan.backedUpAs ?? plan.machine, "--machine", plan.machine],
    ],
    mount: { name: "tls", mountPath: TLS_DIRECTORY, readOnly: true },
    volume: { name: "tls", secret: { secretName: names.stateJob, defaultMode: 0o440 } },
  };
  return [
    ...(stateSecret === undefined
      ? [create(SECRETS, tlsSecret(names.stateJob, namespace, restoreLabels(restore), ca, relocation))]
      : []),
    ...(stateJob === undefined ? [create(JOBS, jobOf(observed, plan, source))] : []),
  ];
}

/** What a Job that fills the claim runs, and what it mounts beside it. */
interface StateSource {
  readonly args: readonly string[];
  readonly mount: object;
  readonly volume: object;
}

function jobOf({ restore, spec, settings }: Observed, plan: Plan, { args, mount, volume }: StateSource): Manifest {
  const names = restoreNames(restore, plan.machine);
  const labels = restoreLabels(restore);
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: names.stateJob, namespace: restore.metadata.namespace ?? "", labels },
    spec: {
      backoffLimit: 3,
      // A pod that is ending still, on a node that does not answer perhaps, has the claim to itself.
      podReplacementPolicy: "Failed",
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
              command: ["vmrestore"],
              args,
              ...TELL_FAILURE,
              securityContext: CONTAINER_SECURITY,
              resources: { requests: { cpu: "50m", memory: "64Mi" } },
              volumeMounts: [mount, { name: "state", mountPath: STATE_DIRECTORY }],
            },
          ],
          volumes: [volume, { name: "state", persistentVolumeClaim: { claimName: stateClaimName(restore, spec) } }],
        },
      },
    },
  };
}
