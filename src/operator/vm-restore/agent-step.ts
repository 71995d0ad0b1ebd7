import type { AgentPhase } from "../../api/agent-control.ts";
import { parseDuration } from "../../api/duration.ts";
import { formatBytes } from "../../base/format-bytes.ts";
import { type Action, create, removeIfThere } from "../actions.ts";
import { sentence } from "../backup-repository/decide.ts";
import { conditionOf, isTrue } from "../conditions.ts";
import { podTrouble } from "../inspection-job.ts";
import { CLAIMS, JOBS, SECRETS, SERVICES, type Secret, STATEFUL_SETS } from "../kinds.ts";
import { agentObjects } from "./agent-objects.ts";
import { isGuestLate, isGuestReady } from "./guest.ts";
import { generateKeys, readKeys, tlsSecret } from "./keys.ts";
import { isOurs, restoreLabels, restoreNames } from "./names.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { relocationBegun } from "./relocation-step.ts";
import { acts, no, type Outcome, passed, waits, yes } from "./step.ts";

const POLL_MS = 300;
const LOST_POLL_MS = 2000;

/** The media agent: its objects, each made once where it is missing, and whether it serves. */
export function runAgent(observed: Observed, plan: Plan): Outcome {
  const { restore, spec, settings, service, keys, now } = observed;
  if (observed.overlay === undefined && hadOverlay(observed)) return waits(overlayLost(observed), 10_000);
  const starting = (message: string) => no("AgentReady", "Starting", message);
  const objects = agentObjects(restore, spec, plan, settings);
  const recorded = restore.status?.mediaAgent?.address;
  if (service === undefined)
    return acts([create(SERVICES, objects.service(recorded))], starting("The media agent is being made."));
  const address = service.spec?.clusterIP;
  if (address === undefined || address === "")
    return waits(starting("The media agent's Service has no address yet."), POLL_MS);
  if (keys === undefined) {
    return acts(
      [{ do: "generate", type: SECRETS, make: () => generateKeys({ restore, settings, address, now }) }],
      starting("The media agent is being made."),
    );
  }
  const stale = staleCertificates(observed, keys);
  if (stale.length > 0)
    return acts(stale, starting("The restore's keys were lost: the media agent is started anew with others."));
  const missing = missingObjects(observed, plan);
  if (missing.length > 0) return acts(missing, starting("The media agent is being made."));
  const status = { mediaAgent: { ...restore.status?.mediaAgent, address, name: restoreNames(restore, "").agent } };
  const { status: told, problem, failed } = observed.agent;
  if (told?.serving === true)
    return {
      ...passed(
        yes(
          "AgentReady",
          "Serving",
          `The media agent serves ${plan.disks.length === 1 ? "1 disk" : `${plan.disks.length} disks`}.`,
        ),
      ),
      status,
    };
  // What a connection breaks off with while the process starts says nothing to people by itself.
  const silence = failed === true ? `its pod runs and does not answer yet (${problem})` : problem;
  const trouble = podTrouble(observed.agentPods) ?? silence ?? "it opens the backup";
  // A machine is waited for by people; one that is there already waits by itself.
  const againMs = isOurs(restore, observed.machine) ? LOST_POLL_MS : POLL_MS;
  return { ...waits(starting(sentence(`The media agent does not serve yet: ${trouble}`)), againMs), status };
}

/**
 * What still bears certificates of an authority that is gone, where somebody deleted the Secret with the keys: nobody could talk to
 * the agent any more. It is stopped and made anew; its clients wait meanwhile, as for any restart.
 */
function staleCertificates({ tls, jobSecret, job, statefulSet }: Observed, keys: Secret): Action[] {
  const isStale = (secret: Secret | undefined) =>
    secret !== undefined && secret.data?.["ca.crt"] !== keys.data?.["ca.crt"];
  const found = [
    ...(isStale(jobSecret)
      ? ([
          [JOBS, job],
          [SECRETS, jobSecret],
        ] as const)
      : []),
    // The mark of what is stale goes last.
    ...(isStale(tls)
      ? ([
          [STATEFUL_SETS, statefulSet],
          [SECRETS, tls],
        ] as const)
      : []),
  ];
  return found.flatMap(([type, object]) => removeIfThere(type, object));
}

/** Whether the machine may have written to an overlay: it is made before the StatefulSet is, and before there is a machine. */
function hadOverlay(observed: Observed): boolean {
  const { restore, statefulSet, machine } = observed;
  const before = conditionsBefore(observed);
  const ready = conditionOf(before, "AgentReady");
  return (
    statefulSet !== undefined || isOurs(restore, machine) || ready?.status === "True" || ready?.reason === "OverlayLost"
  );
}

/** An empty overlay in its place would be the machine's disk as it was when it was backed up, under a running machine. */
function overlayLost({ restore, spec, settings }: Observed) {
  const { name } = spec.virtualMachine;
  const claim = restoreNames(restore, name).overlay;
  const message = `Claim ${claim} in namespace ${settings.namespace} is gone, and with it what the machine wrote since it was restored. Nothing is changed. Put the claim back from a copy of its storage, or delete VirtualMachine ${name} and this VMRestore, and restore anew.`;
  return no("AgentReady", "OverlayLost", message);
}

function missingObjects({ restore, spec, settings, ...observed }: Observed, plan: Plan): Action[] {
  const objects = agentObjects(restore, spec, plan, settings);
  const actions: Action[] = [];
  if (observed.tls === undefined && observed.keys !== undefined) {
    const keys = readKeys(observed.keys);
    const name = restoreNames(restore, "").tls;
    actions.push(create(SECRETS, tlsSecret(name, settings.namespace, restoreLabels(restore), keys.ca, keys.agent)));
  }
  if (observed.overlay === undefined) actions.push(create(CLAIMS, objects.overlay));
  if (observed.cache === undefined) actions.push(create(CLAIMS, objects.cache));
  if (observed.statefulSet === undefined) actions.push(create(STATEFUL_SETS, objects.statefulSet));
  return actions;
}

/** The agent schedules reads by what the machine is doing; a restarted agent is told again. */
export function tellPhase(observed: Observed): Outcome {
  const wanted = wantedPhase(observed);
  if (observed.agent.told === wanted) return passed();
  return acts([{ do: "agent", what: `phase ${wanted}`, call: (agent) => agent.setPhase(wanted) }]);
}

export function wantedPhase(observed: Observed): AgentPhase {
  if (relocationBegun(observed)) return "Relocating";
  if (isTrue(conditionsBefore(observed), "GuestReady") || isGuestReady(observed)) return "Ready";
  if (observed.machine === undefined) return bootSetOutcome(observed).passes ? "Booting" : "Staging";
  return isGuestLate(observed) ? "BootFailed" : "Booting";
}

/** What the machine reads first: staged, or waited for long enough. */
export function bootSetOutcome(observed: Observed): Outcome {
  const { spec, now, agent } = observed;
  const before = conditionOf(conditionsBefore(observed), "BootSetStaged");
  const set = agent.status?.bootSet;
  if (before?.status === "True") return passed(yes("BootSetStaged", before.reason, before.message));
  if (!spec.launch.waitForBootSet)
    return passed(
      yes("BootSetStaged", "NotAwaited", "The machine starts without waiting, as spec.launch.waitForBootSet says."),
    );
  if (set === undefined)
    return waits(no("BootSetStaged", "Staging", "The media agent has not told yet what is staged."), POLL_MS);
  if (set.launchable)
    return passed(
      yes(
        "BootSetStaged",
        "Staged",
        `${formatBytes(set.staged)} of ${formatBytes(set.bytes)} are staged, chosen by ${set.source === "Profile" ? "the machine's profile" : "the disk's structure"}${set.complete ? "" : "; the rest will be before the machine comes to it"}.`,
      ),
    );
  const serving = conditionOf(conditionsBefore(observed), "AgentReady");
  const since = serving?.status === "True" ? Date.parse(serving.lastTransitionTime) : now;
  const left = since + parseDuration(spec.launch.bootSetTimeout) - now;
  const amount =
    set.bytes === 0
      ? "what the machine will read first is still being chosen"
      : `${formatBytes(set.staged)} of ${formatBytes(set.bytes)} that the machine will read first are staged`;
  if (left <= 0)
    return passed(
      yes(
        "BootSetStaged",
        "TimedOut",
        sentence(`${amount} after ${spec.launch.bootSetTimeout}; the machine starts all the same`),
      ),
    );
  return waits(no("BootSetStaged", "Staging", sentence(amount)), Math.min(POLL_MS, left));
}
