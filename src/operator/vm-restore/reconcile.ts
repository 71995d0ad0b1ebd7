import { isDeepStrictEqual } from "node:util";
import { LABELS } from "../../api/group.ts";
import { type VMRestore, vmRestoreSpec } from "../../api/vm-restore.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logging.ts";
import { perform } from "../actions.ts";
import { sentence } from "../backup-repository/decide.ts";
import { changedConditions, conditionOf, mergeConditions } from "../conditions.ts";
import { JOBS, SECRETS, VM_RESTORES } from "../kinds.ts";
import type { AccessRules } from "../runtime/access-rules.ts";
import { CachedReads, type Watched } from "../runtime/cached-reads.ts";
import type { Cluster, ClusterReads } from "../runtime/cluster.ts";
import { isConflict } from "../runtime/errors.ts";
import type { EventRecorder } from "../runtime/event-recorder.ts";
import type { OperatorMetrics } from "../runtime/metrics.ts";
import { identityOf, type Manifest } from "../runtime/objects.ts";
import type { PodEvents } from "../runtime/pod-events.ts";
import type { OperatorSettings } from "../settings.ts";
import { newMove } from "./agent-move.ts";
import { type AgentConnector, AgentSession } from "./agent-session.ts";
import { decide, RESTORE_FINALIZER } from "./decide.ts";
import { Grants } from "./grants.ts";
import { restoreNames } from "./names.ts";
import { type NodeKnowledge, type ObserveOptions, observe } from "./observe.ts";
import type { Observed } from "./observed.ts";
import { progressWait } from "./progress.ts";
import { Sharers } from "./sharers.ts";
import { phaseOf, statusAfter } from "./status.ts";
import { no, type Outcome } from "./step.ts";
import { countSteps } from "./step-metrics.ts";
import { admits } from "./turn-step.ts";

export interface RestoreReconcilerOptions {
  readonly cluster: Cluster;
  readonly settings: OperatorSettings;
  readonly clock: Clock;
  readonly events: EventRecorder;
  readonly metrics: OperatorMetrics;
  readonly logger: Logger;
  readonly connector?: AgentConnector;
  /** Throws when this replica leads no more. */
  readonly mayAct?: () => void;
  /** What is known of the cluster without asking; default: nothing. */
  readonly watched?: readonly Watched[];
  /** What the operator may do, to find out before it is refused; default: nothing is known. */
  readonly access?: AccessRules;
  /** Which nodes can mount what agents serve; default: they are not looked at. */
  readonly nodeChecks?: NodeKnowledge | undefined;
  /** What is said about launcher pods that do not start; default: that is not looked at. */
  readonly podEvents?: Pick<PodEvents, "look"> | undefined;
}

interface Session {
  readonly uid: string;
  readonly session: AgentSession;
  readonly reads: CachedReads;
  /** When the status was written last, by the monotonic clock. */
  written: number;
}

type Glance =
  | { readonly isIdle: true; readonly againMs: number | undefined }
  | { readonly isIdle: false; readonly silent?: string | undefined };

/**
 * Gathers, decides, writes: one step at a time for each VMRestore. It gathers from the watches first. Where that leaves nothing to be
 * done, as is so most of the time, the API server is not asked. Otherwise everything is read anew, and what that comes to is done.
 */
export class RestoreReconciler {
  readonly #options: RestoreReconcilerOptions;
  readonly #sessions = new Map<string, Session>();
  readonly #known: ClusterReads;
  readonly #grants: Grants;
  readonly #sharers: Sharers | undefined;

  constructor(options: RestoreReconcilerOptions) {
    this.#options = options;
    const { watched = [], cluster, clock, settings } = options;
    this.#known = new CachedReads(watched, cluster, clock).known;
    this.#grants = new Grants(clock);
    const isShared = options.watched !== undefined && settings.shareBlobs !== false;
    this.#sharers = isShared ? new Sharers(this.#known, clock, settings.namespace) : undefined;
  }

  /** Milliseconds until the next step; undefined: on a change only. */
  async reconcile(namespace: string, name: string): Promise<number | undefined> {
    const key = `${namespace}/${name}`;
    const glance = await this.#glance(key, namespace, name);
    if (glance.isIdle) return glance.againMs;
    return this.#step(key, namespace, name, glance.silent);
  }

  /** Whether there is nothing to be done now, as far as the watches know. */
  async #glance(key: string, namespace: string, name: string): Promise<Glance> {
    const { clock, metrics } = this.#options;
    if (this.#options.watched === undefined) return { isIdle: false };
    const restore = await this.#known.get(VM_RESTORES, namespace, name);
    const spec = vmRestoreSpec.safeParse(restore?.spec);
    if (restore === undefined || !spec.success) return { isIdle: false };
    const known = this.#session(key, restore.metadata.uid ?? "");
    const { session, reads } = known;
    const observed = await observe({ ...this.#gathering(session), cluster: reads.known }, restore, spec.data);
    const outcome = decide(observed);
    const silent = observed.agent.failed === true ? observed.agent.problem : undefined;
    if ((outcome.actions ?? []).length > 0) return { isIdle: false, silent };
    const status = JSON.parse(JSON.stringify(statusAfter(observed, outcome))) as VMRestoreStatus;
    metrics.restoreIs(known.uid, status.phase);
    if (isDeepStrictEqual(status, restore.status ?? {})) return { isIdle: true, againMs: outcome.againMs };
    const wait = progressWait(restore.status ?? {}, status, clock.now());
    if (wait === undefined) return { isIdle: false, silent };
    const left = known.written + wait - clock.monotonic();
    if (left > 0) return { isIdle: true, againMs: Math.min(outcome.againMs ?? left, left) };
    await this.#writeStatus(restore, status);
    known.written = clock.monotonic();
    return { isIdle: true, againMs: outcome.againMs };
  }

  /** @param silent why the agent did not answer a moment ago */
  async #step(key: string, namespace: string, name: string, silent: string | undefined): Promise<number | undefined> {
    const { cluster, clock, metrics, logger } = this.#options;
    const restore = await cluster.get(VM_RESTORES, namespace, name);
    if (restore === undefined) {
      this.#forget(key);
      return undefined;
    }
    const uid = restore.metadata.uid ?? "";
    const spec = vmRestoreSpec.safeParse(restore.spec);
    if (!spec.success) {
      if (await this.#mayGo(restore)) return 0;
      const issue = spec.error.issues[0];
      const field = ["spec", ...(issue?.path ?? [])].join(".");
      await this.#refuse(restore, sentence(`${field}: ${issue?.message}`));
      return undefined;
    }
    const known = this.#session(key, uid);
    const { session, reads } = known;
    const observed = await observe({ ...this.#gathering(session), cluster: reads.now, silent }, restore, spec.data);
    const outcome = this.#decide(observed);
    const actions = outcome.actions ?? [];
    try {
      await perform(actions, cluster, session.control, this.#options.mayAct);
    } catch (error) {
      if (isConflict(error)) throw error;
      const failed = statusAfter(observed, { conditions: [actionFailed(error)], passes: false });
      // What went wrong first is what is to be told.
      await this.#writeStatus(restore, failed).catch((later: unknown) => {
        if (!isConflict(later)) logger.warn({ restore: key, error: errorMessage(later) }, "status not written");
      });
      throw error;
    }
    for (const action of actions) {
      const what =
        action.do === "agent"
          ? action.what
          : action.do === "generate"
            ? action.type.kind
            : `${action.type.kind} ${action.object.metadata.name}`;
      logger.info({ restore: key, action: action.do, what }, "done");
    }
    const status = statusAfter(observed, outcome);
    metrics.restoreIs(uid, status.phase);
    // An object that was just written is another one than was read: the next reconcile reads it, where it is still there.
    if (!writesItself(outcome)) {
      await this.#writeStatus(restore, status);
      known.written = clock.monotonic();
    }
    return actions.length > 0 ? 0 : outcome.againMs;
  }

  /** What every look at a restore is made with, beside its cluster. */
  #gathering(session: AgentSession): Omit<ObserveOptions, "cluster"> {
    const { settings, clock, access, nodeChecks, podEvents } = this.#options;
    return {
      nodeChecks,
      podEvents,
      settings,
      now: clock.now(),
      session,
      granted: this.#grants.recent,
      sharers: this.#sharers,
      ...(access === undefined ? {} : { access }),
    };
  }

  /** A decision, and what other restores have to know of it before its status is written. */
  #decide(observed: Observed): Outcome {
    const outcome = decide(observed);
    if (admits(observed, outcome)) this.#grants.add(observed.restore.metadata.uid ?? "");
    return outcome;
  }

  /** A restore with a spec that nobody can follow, which made nothing, is let go when it is deleted. Whether that was done. */
  async #mayGo(restore: VMRestore): Promise<boolean> {
    const { cluster, settings } = this.#options;
    const finalizers = restore.metadata.finalizers ?? [];
    if (restore.metadata.deletionTimestamp === undefined || !finalizers.includes(RESTORE_FINALIZER)) return false;
    const names = restoreNames(restore, "");
    // The plan is made before everything else but the inspection, and goes last.
    if ((await cluster.get(SECRETS, settings.namespace, names.plan)) !== undefined) return false;
    const inspections = await cluster.list(JOBS, settings.namespace, `${LABELS.restoreUid}=${restore.metadata.uid}`);
    for (const job of inspections) await cluster.delete(JOBS, job);
    const left = finalizers.filter((name) => name !== RESTORE_FINALIZER);
    const metadata = { ...restore.metadata, finalizers: left };
    await cluster.replace(VM_RESTORES, { ...restore, metadata } as unknown as Manifest);
    return true;
  }

  close(): void {
    for (const key of [...this.#sessions.keys()]) this.#forget(key);
  }

  async #refuse(restore: VMRestore, message: string): Promise<void> {
    const now = this.#options.clock.now();
    const generation = restore.metadata.generation ?? 0;
    const before = restore.status ?? {};
    const conditions = mergeConditions(before.conditions ?? [], [no("SpecValid", "InvalidSpec", message)], {
      now,
      generation,
    });
    await this.#writeStatus(restore, {
      ...before,
      observedGeneration: generation,
      conditions,
      phase: phaseOf(conditions),
      message,
    });
  }

  async #writeStatus(restore: VMRestore, status: VMRestoreStatus): Promise<void> {
    const { cluster, events, metrics } = this.#options;
    const clean = JSON.parse(JSON.stringify(status)) as VMRestoreStatus;
    if (isDeepStrictEqual(clean, restore.status ?? {})) return;
    await cluster.applyStatus(VM_RESTORES, {
      apiVersion: restore.apiVersion,
      kind: restore.kind,
      metadata: identityOf(restore),
      status: clean,
    });
    countSteps(metrics, restore, clean);
    const move = newMove(restore.status, clean);
    if (move !== undefined) {
      metrics.agentMoved(move.pauseMs);
      await events.record(restore, { type: "Normal", reason: "AgentMoved", message: move.message });
    }
    for (const { type, status: value, reason, message } of changedConditions(
      restore.status?.conditions ?? [],
      clean.conditions ?? [],
    )) {
      // That nothing is wrong is news only after something was.
      if (type === "Degraded" && value === "False" && conditionOf(restore.status?.conditions, type) === undefined)
        continue;
      const isWarning = WARNINGS.test(reason) || (type === "Degraded" && value === "True");
      await events.record(restore, { type: isWarning ? "Warning" : "Normal", reason, message });
    }
  }

  #session(key: string, uid: string): Session {
    const before = this.#sessions.get(key);
    if (before?.uid === uid) return before;
    before?.session.close();
    const session = new AgentSession(this.#options.connector, this.#options.clock);
    const known = { uid, session, reads: this.#reads(uid), written: Number.NEGATIVE_INFINITY };
    this.#sessions.set(key, known);
    return known;
  }

  /** @param uid of a restore: it is in the names that nobody else gives */
  #reads(uid: string): CachedReads {
    const { watched = [], cluster, clock } = this.#options;
    return new CachedReads(watched, cluster, clock, (name) => name.includes(uid));
  }

  #forget(key: string): void {
    this.#options.podEvents?.look(key, undefined);
    const known = this.#sessions.get(key);
    if (known === undefined) return;
    known.session.close();
    this.#options.metrics.restoreIs(known.uid, undefined);
    this.#sessions.delete(key);
  }
}

const WARNINGS =
  /NotFound|Failed|Exists|TooSmall|NotReady|NotSupported|Missing|Wrong|Unreachable|TimedOut|Lost|Mismatch|Invalid|NodeLocal|SharedFileSystem|InUse|NotMapped|NotAllowed|TooMany|Ambiguous|NotPossible|GivenUp|Unclear|TakesLong|Exceeded|Terminating|Forbids|Unable|Lacks|^Replaced|DrainHeld/;

function actionFailed(error: unknown) {
  return { type: "Degraded", status: "True", reason: "ActionFailed", message: sentence(errorMessage(error)) } as const;
}

function writesItself({ actions }: Outcome): boolean {
  return (
    actions?.some((action) => (action.do === "replace" || action.do === "delete") && action.type === VM_RESTORES) ??
    false
  );
}
