import type { ConditionDraft } from "../conditions.ts";
import { usesTargets } from "./cutover-state.ts";
import { overlayClass } from "./default-class.ts";
import { isOurs, restoreNames } from "./names.ts";
import { nodesCondition } from "./nodes-step.ts";
import type { Observed } from "./observed.ts";
import { overlayClassName, type Plan } from "./plan.ts";
import { recreate } from "./recreate.ts";
import { replaceProblem } from "./replace-step.ts";
import { no, yes } from "./step.ts";
import { checkSurroundings } from "./surroundings.ts";
import { targetProblem } from "./target-check.ts";

/** Provisioners whose volumes lie on one node's own disks. */
const NODE_LOCAL = [
  "kubernetes.io/no-provisioner",
  "rancher.io/local-path",
  "kubevirt.io.hostpath-provisioner",
  "hostpath.csi.k8s.io",
  "k8s.io/minikube-hostpath",
  "microk8s.io/hostpath",
  "docker.io/hostpath",
  "openebs.io/local",
  "local.csi.openebs.io",
  "zfs.csi.openebs.io",
  "topolvm.io",
  "topolvm.cybozu.com",
  "lvm.csi.metal-stack.io",
];

export const targetReady: ConditionDraft = yes(
  "TargetReady",
  "Checked",
  "Names are free, classes exist, sizes suffice.",
);

/** What stands in the way of making the machine and its claims; nothing is made until nothing does. */
export function checkTarget(observed: Observed, plan: Plan): ConditionDraft {
  return targetProblems(observed, plan)[0] ?? targetReady;
}

/** Everything that stands in the way, what is to be mended first first: of each check what it finds first. */
export function targetProblems(observed: Observed, plan: Plan): ConditionDraft[] {
  return [checkName, checkManifest, checkClasses, checkClaims, checkSurroundings, checkNodes].flatMap(
    (check) => check(observed, plan) ?? [],
  );
}

function checkName(observed: Observed): ConditionDraft | undefined {
  const { restore, spec, machine, instance } = observed;
  const problem = replaceProblem(observed);
  if (problem !== undefined) return refuse(problem.reason, problem.message);
  const name = spec.virtualMachine.name;
  // a machine of that name, not made by this restore → VirtualMachineExists
  if (machine !== undefined && !isOurs(restore, machine)) {
    return refuse(
      "VirtualMachineExists",
      `There is a VirtualMachine ${name} already, and it is not touched. To replace it and keep its disks, set spec.replace.confirmUid to its uid; or choose another spec.virtualMachine.name, or delete it.`,
    );
  }
  // one that runs without a VirtualMachine, or whose VirtualMachine was just deleted → VirtualMachineExists
  if (machine === undefined && instance !== undefined && !isOurs(restore, instance)) {
    return refuse(
      "VirtualMachineExists",
      `There is a VirtualMachineInstance ${name}: a machine of that name is running or shutting down, and it is not touched. Wait until it is gone, delete it, or choose another spec.virtualMachine.name.`,
    );
  }
  return undefined;
}

/** classes named in the spec that do not exist; an overlay on one node's disk that nobody allowed */
function checkClasses(observed: Observed): ConditionDraft | undefined {
  const { spec, storageClasses } = observed;
  const overlay = overlayClassName(spec);
  const asked: [string, string | undefined][] = [
    ["spec.mediaAgent.overlay.storageClassName", spec.mediaAgent.overlay.storageClassName],
    ["spec.mediaAgent.cache.storageClassName", spec.mediaAgent.cache.storageClassName],
    ["spec.relocation.target.storageClassName", spec.relocation.target.storageClassName],
    ...(spec.relocation.target.perDisk ?? []).map((disk): [string, string | undefined] => [
      `storageClassName of disk ${disk.name} in spec.relocation.target.perDisk`,
      disk.storageClassName,
    ]),
  ];
  for (const [field, className] of asked) {
    if (className === undefined || storageClasses.some(({ metadata }) => metadata.name === className)) continue;
    return refuse("StorageClassNotFound", `There is no StorageClass ${className}. Create it, or correct ${field}.`);
  }
  const effective = overlayClass(observed);
  if (overlay === undefined && effective === undefined) {
    return refuse(
      "NoDefaultStorageClass",
      "The cluster has no default StorageClass. Name one in spec.relocation.target.storageClassName.",
    );
  }
  if (
    effective !== undefined &&
    NODE_LOCAL.includes(effective.provisioner ?? "") &&
    !spec.mediaAgent.allowNodeLocalOverlay
  ) {
    return refuse(
      "NodeLocalOverlay",
      `StorageClass ${effective.metadata.name} keeps volumes on one node: what the machine writes before cutover would be lost with it. Name a replicated class in spec.mediaAgent.overlay.storageClassName, or accept the risk with spec.mediaAgent.allowNodeLocalOverlay: true.`,
    );
  }
  return undefined;
}

function checkClaims(observed: Observed, plan: Plan): ConditionDraft | undefined {
  const { restore, spec, disks } = observed;
  const names = restoreNames(restore, spec.virtualMachine.name);
  for (const disk of plan.disks) {
    const seen = disks.find(({ name }) => name === disk.name);
    if (seen?.claim !== undefined && !isOurs(restore, seen.claim)) {
      return refuse(
        "ClaimExists",
        `There is a claim ${names.served(disk.name).claim} already, and it is not touched. Rename or delete it.`,
      );
    }
  }
  const problem = usesTargets(spec) ? targetProblem(observed, plan.disks) : undefined;
  return problem === undefined ? undefined : refuse(problem.reason, problem.message);
}

/** a manifest in the spec that no machine can be made from; one in the backup is seen by the media agent only */
function checkManifest({ restore, spec }: Observed, plan: Plan): ConditionDraft | undefined {
  const { from, template } = spec.virtualMachine.manifest;
  if (from !== "Inline") return undefined;
  const names = restoreNames(restore, spec.virtualMachine.name);
  const claims = new Map(plan.disks.map(({ name }) => [name, names.served(name).claim]));
  const made = recreate(restore, spec, template, claims);
  return "problem" in made ? refuse(made.reason, made.problem) : undefined;
}

/** nodes none of which can mount what the agent would serve, where that is known already; nobody waits for it here */
function checkNodes(observed: Observed, plan: Plan): ConditionDraft | undefined {
  const told = nodesCondition(observed, plan);
  return told?.status === "False" ? refuse(told.reason, told.message) : undefined;
}

function refuse(reason: string, message: string): ConditionDraft {
  return no("TargetReady", reason, message);
}
