import { type ConditionDraft, conditionOf } from "../conditions.ts";
import { conditionsBefore, type Observed } from "./observed.ts";
import { contenderOf, type Limits, repositoryKey, repositoryLimit, type Turn, turnOf } from "./queue.ts";
import { no, type Outcome, waits, yes } from "./step.ts";

const ADMITTED = "Admitted";
const LEFT_QUEUE = "LeftQueue";
/** How often one that waits is looked at; those far back less often. */
const POLL_MS = 2000;
const LONGEST_POLL_MS = 30_000;

/** The limits that count for this restore. */
export function limitsOf({ settings, sources }: Pick<Observed, "settings" | "sources">): Limits {
  const limits = sources.flatMap(({ source, repository }): [string, number][] => {
    const limit = repositoryLimit(repository?.spec);
    return limit === undefined ? [] : [[repositoryKey(source.repository.namespace, source.repository.name), limit]];
  });
  return { perNamespace: settings.maxRestoresPerNamespace, perRepository: new Map(limits) };
}

export function isLimited({ perNamespace, perRepository }: Limits): boolean {
  return perNamespace !== undefined || perRepository.size > 0;
}

/** One that waits already: nothing else of it is looked at until its turn comes. Undefined where it does not wait. */
export function goOnWaiting(observed: Observed): Outcome | undefined {
  const { restore, spec } = observed;
  const before = conditionOf(conditionsBefore(observed), ADMITTED);
  const isQueued = before?.status === "False" && before.reason === "Queued" && !spec.dryRun;
  if (!isQueued || before.observedGeneration !== restore.metadata.generation) return undefined;
  const limits = limitsOf(observed);
  if (!isLimited(limits)) return undefined;
  const others = observed.others.filter(({ metadata }) => metadata.uid !== restore.metadata.uid).map(contenderOf);
  const contenders = others.map((other) =>
    observed.granted.has(other.uid) ? { ...other, state: "holding" as const } : other,
  );
  const turn = turnOf(
    restore.metadata.uid ?? "",
    [...contenders, { ...contenderOf(restore), state: "waiting" }],
    limits,
  );
  return turn.isTurn ? admit() : wait(observed, turn);
}

/**
 * Once everything is checked: may it begin? It asks first, so that it is seen by the others, and then waits for its turn. That its turn
 * has come stands in the status before anything is made. Undefined: nothing holds it up.
 */
export function awaitTurn(observed: Observed): Outcome | undefined {
  const before = conditionOf(conditionsBefore(observed), ADMITTED);
  if (before?.status === "True" || !isLimited(limitsOf(observed))) return undefined;
  return { ...waits(no(ADMITTED, "Queued", "The restore asks for its turn."), 0) };
}

/**
 * What is said of one that waits, or was let begin, and finds before it has made anything that it cannot: it stands in nobody's way, and
 * asks for its turn again once it can.
 *
 * @param conditions what was found
 */
export function leaveQueue(observed: Observed, conditions: readonly ConditionDraft[]): ConditionDraft[] {
  const before = conditionOf(conditionsBefore(observed), ADMITTED);
  const stands = before?.status === "True" || before?.reason === "Queued" || before?.reason === LEFT_QUEUE;
  const trouble = conditions.find(({ status, reason }) => status === "False" && reason !== "Inspecting");
  if (!stands || trouble === undefined) return [];
  return [no(ADMITTED, LEFT_QUEUE, "The restore cannot begin, and lets others go first until it can.")];
}

/** Whether this outcome lets a restore begin that did not before. */
export function admits(observed: Observed, { conditions }: Outcome): boolean {
  const isAdmitted = conditions?.some(({ type, status }) => type === ADMITTED && status === "True") ?? false;
  return isAdmitted && conditionOf(conditionsBefore(observed), ADMITTED)?.reason === "Queued";
}

function admit(): Outcome {
  return { ...waits(yes(ADMITTED, "Admitted", "Its turn has come."), 0), status: { queue: undefined } };
}

function wait({ restore }: Observed, turn: Extract<Turn, { isTurn: false }>): Outcome {
  const { repository, position, waiting, limit } = turn;
  const restores = limit === 1 ? "1 restore" : `${limit} restores`;
  const { namespace } = restore.metadata;
  const what =
    repository === undefined
      ? `namespace ${namespace}, in which ${restores} may be under way at once`
      : `BackupRepository ${repository.replace(`${namespace}/`, "")}, from which ${restores} may be under way at once`;
  const message = `The restore waits for its turn: it is number ${position} of ${waiting} that wait for ${what}.`;
  return {
    ...waits(no(ADMITTED, "Queued", message), Math.min(LONGEST_POLL_MS, POLL_MS * position)),
    status: { queue: { position, waiting } },
  };
}
