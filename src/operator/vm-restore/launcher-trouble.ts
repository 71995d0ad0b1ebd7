import { sentence } from "../backup-repository/decide.ts";
import type { Pod } from "../kinds.ts";
import { NFS_CLIENT_MEND } from "../node-check/node-problems.ts";
import type { Event } from "../runtime/event-recorder.ts";
import type { Observed } from "./observed.ts";

/** Characters that are looked at of what was said, and that are told of it. Events have 1024 at the most, pods' conditions more. */
const READ = 4096;
const LIMIT = 500;
/** Reasons of events about volumes, and what they say of the pod. */
const VOLUME_TROUBLES: Readonly<Record<string, string>> = {
  FailedAttachVolume: "cannot get a volume attached",
  FailedMount: "cannot mount a volume",
  FailedMapVolume: "cannot map a volume",
};
/** All volumes are there when the kubelet gets to a pod's images and containers. */
const PAST_VOLUMES = ["Pulling", "Pulled", "Created", "Started"];
const PULLING = /^(ErrImage|ImagePull|ImageInspect|InvalidImage|RegistryUnavailable)/;
/** What the kubelet says of a container in good order. */
const IN_ORDER = ["ContainerCreating", "PodInitializing"];

/**
 * What a machine's launcher pod waits for, in a sentence; undefined where nothing is known to hold it up.
 *
 * @param called what people know the pod as
 */
export function launcherTrouble(observed: Observed, called = "launcher pod"): string | undefined {
  const { launcher } = observed;
  if (launcher === undefined) return undefined;
  const { pod, events } = launcher;
  const what = schedulingTrouble(pod) ?? containerTrouble(pod) ?? volumeTrouble(pod, events);
  return what === undefined
    ? undefined
    : sentence(`The machine's ${called} ${pod.metadata.name} waits: ${withoutSecrets(observed, what)}`);
}

function schedulingTrouble({ status }: Pod): string | undefined {
  const scheduled = status?.conditions?.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status !== "False") return undefined;
  return `no node takes it: ${scheduled.message ?? scheduled.reason ?? "no reason given"}`;
}

function containerTrouble({ status }: Pod): string | undefined {
  for (const { name, state } of [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])]) {
    const { reason, message = "" } = state?.waiting ?? {};
    if (reason === undefined || IN_ORDER.includes(reason)) continue;
    const said = message === "" ? "" : `: ${message}`;
    return PULLING.test(reason)
      ? `the image of its container ${name} cannot be pulled (${reason})${said}`
      : `its container ${name} does not start (${reason})${said}`;
  }
  return undefined;
}

/** The last that was said of its volumes, unless that was got over since. */
function volumeTrouble({ spec }: Pod, events: readonly Event[]): string | undefined {
  const inOrder = [...events].sort((a, b) => timeOf(a) - timeOf(b));
  const index = inOrder.findLastIndex(({ reason = "" }) => VOLUME_TROUBLES[reason] !== undefined);
  const { reason = "", message = "no reason given" } = inOrder[index] ?? {};
  const trouble = VOLUME_TROUBLES[reason];
  const over = [...PAST_VOLUMES, ...(reason === "FailedAttachVolume" ? ["SuccessfulAttachVolume"] : [])];
  if (trouble === undefined || inOrder.slice(index + 1).some((later) => over.includes(later.reason ?? "")))
    return undefined;
  // With the command line left out: what `mount` said is at its end.
  const said = message.replace(/\bMounting command:[\s\S]*?\bOutput:/, "");
  const lacksClient = /unknown filesystem type .?nfs|mount\.<type> helper/.test(message);
  return `${spec?.nodeName === undefined ? "its node" : `node ${spec.nodeName}`} ${trouble}: ${said}${lacksClient ? `\n${NFS_CLIENT_MEND}` : ""}`;
}

function timeOf({ metadata, series, lastTimestamp, eventTime, firstTimestamp }: Event): number {
  const time = series?.lastObservedTime ?? lastTimestamp ?? eventTime ?? firstTimestamp ?? metadata.creationTimestamp;
  return Date.parse(time ?? "");
}

/**
 * On one line and not too long, without what must not be read in a status: an export's path lets whoever knows it mount the disk, and
 * mount options of other volumes may hold passwords.
 */
function withoutSecrets({ agent, disks }: Observed, text: string): string {
  const paths = [
    ...(agent.status?.disks.map(({ exportPath }) => exportPath) ?? []),
    ...disks.flatMap(({ volume }) => volume?.spec?.nfs?.path ?? []),
  ];
  const told = paths.reduce((rest, path) => rest.replaceAll(path, "/…"), text);
  return told
    .slice(0, READ)
    .replace(/((?:[\w.-]+|\[[\da-f:]+\]):)\/(?!\/)[^\s"',]+/gi, "$1/…")
    .replace(/\b([\w-]*(?:pass|password|passwd|secret|token|key|credentials?)=)[^\s,;&"']+/gi, "$1…")
    .replace(/\/\/[^\s/@]+@/g, "//…@")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, LIMIT);
}
