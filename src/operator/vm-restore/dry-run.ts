import { formatBytes } from "../../base/format-bytes.ts";
import { removeIfThere } from "../actions.ts";
import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { CLAIMS, JOBS, type Job } from "../kinds.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import type { Plan } from "./plan.ts";
import { plannedObjects } from "./planned-objects.ts";
import { plannedStrategy } from "./planned-strategy.ts";
import { no, type Outcome, waits } from "./step.ts";

/** What is missing may be mended at any time: a plan that says so is made anew after a while. */
const LOOK_AGAIN_MS = 60_000;
const ADMITTED = "Admitted";

/** The plan that was told for this very spec, if there is nothing to look at anew. */
export function toldPlan(observed: Observed, inspectionJobs: readonly Job[]): Outcome | undefined {
  const { restore, spec, now } = observed;
  const { plan } = restore.status ?? {};
  const told = conditionOf(conditionsBefore(observed), ADMITTED);
  if (!spec.dryRun || plan === undefined || told?.reason !== "DryRun") return undefined;
  if (told.observedGeneration !== restore.metadata.generation || inspectionJobs.length > 0) return undefined;
  const left = Date.parse(plan.madeAt) + LOOK_AGAIN_MS - now;
  if (plan.missing.length > 0 && left <= 0) return undefined;
  return waits(no(ADMITTED, told.reason, told.message), plan.missing.length > 0 ? left : undefined);
}

/** Tells in the status what would be made, and makes nothing; what looked into the backup is removed. */
export function tellPlan(
  observed: Observed,
  options: {
    readonly plan: Plan;
    /** Bytes of the disks in the backup that are not zero. */
    readonly dataBytes: number;
    /** What was found so far, and everything that stands in the way. */
    readonly conditions: readonly ConditionDraft[];
    readonly missing: readonly ConditionDraft[];
    readonly inspectionJobs: readonly Job[];
  },
): Outcome {
  const { spec, now } = observed;
  const { dataBytes, conditions, missing, inspectionJobs } = options;
  const objects = plannedObjects(observed, options.plan);
  const claimed = objects
    .filter(({ type, storageClassName }) => type === CLAIMS && storageClassName !== "")
    .reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  const lacks =
    missing.length === 0 ? "Nothing is missing" : `Missing: ${missing.map(({ message }) => message).join(" ")} Then`;
  const message = `A dry run: nothing is made. ${objects.length} objects would be, with claims of ${formatBytes(claimed)}; the backup holds ${formatBytes(dataBytes)}. ${lacks}: to go on, set spec.dryRun to false.`;
  return {
    passes: false,
    actions: inspectionJobs.flatMap((job) => removeIfThere(JOBS, job)),
    conditions: [...conditions, no(ADMITTED, "DryRun", message)],
    status: {
      queue: undefined,
      plan: {
        madeAt: new Date(now).toISOString(),
        ...plannedStrategy(spec),
        bytesInBackup: dataBytes,
        bytesToClaim: claimed,
        objects: objects.map(({ type, namespace, name, bytes, storageClassName }) => ({
          kind: type.kind,
          ...(namespace === undefined ? {} : { namespace }),
          name,
          ...(bytes === undefined ? {} : { bytes }),
          ...(storageClassName === undefined || storageClassName === "" ? {} : { storageClassName }),
        })),
        missing: missing.map(({ reason, message: text }) => ({ reason, message: text })),
      },
    },
    againMs: 1000,
  };
}
