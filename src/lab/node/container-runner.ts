import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import { Child, type Exit } from "./child.ts";
import { commandLine, PodRefusedError } from "./command-line.ts";
import type { Container, ContainerState, NodePod, Probe } from "./pod-spec.ts";
import { NotReadyError, type PodVolumes } from "./pod-volumes.ts";
import { ProbeState, probeOnce } from "./probes.ts";

const BACKOFF_MS = { first: 1000, most: 20_000 };
const NOT_READY_RETRY_MS = 300;
const TERMINATION_MESSAGE_LIMIT = 4096;
const TERMINATION_LOG = "/dev/termination-log";

export interface ContainerOptions {
  readonly pod: NodePod;
  readonly container: Container;
  readonly podIP: string;
  readonly volumes: PodVolumes;
  /** Logs and the termination message lie below it. */
  readonly directory: string;
  /** The command's entry file. */
  readonly cliEntry: string;
  readonly clock: Clock;
  /** Something changed that the pod's status shows. */
  readonly onChange: () => void;
  /** How often it was started before, in an earlier life of the node. */
  readonly restarts: number;
}

/** Runs one container of a pod: starts it, probes it, starts it again as the pod's policy says. */
export class ContainerRunner {
  readonly name: string;
  state: ContainerState = { waiting: { reason: "ContainerCreating" } };
  lastState: ContainerState = {};
  ready = false;
  restartCount: number;
  /** Set when it will not run again. */
  finished: Exit | undefined;
  readonly #options: ContainerOptions;
  readonly #ending = new AbortController();
  #child: Child | undefined;

  constructor(options: ContainerOptions) {
    this.#options = options;
    this.name = options.container.name;
    this.restartCount = options.restarts;
  }

  /** Resolves when the container will not run again. */
  async run(): Promise<void> {
    const policy = this.#options.pod.spec?.restartPolicy ?? "Always";
    let backoff = BACKOFF_MS.first;
    for (;;) {
      const started = this.#options.clock.monotonic();
      const exit = await this.#once();
      if (exit === undefined) return;
      const isOver =
        this.#ending.signal.aborted || policy === "Never" || (policy === "OnFailure" && exit.exitCode === 0);
      if (isOver) {
        this.finished = exit;
        this.#options.onChange();
        return;
      }
      if (this.#options.clock.monotonic() - started > 10 * BACKOFF_MS.most) backoff = BACKOFF_MS.first;
      this.lastState = this.state;
      this.state = { waiting: { reason: "CrashLoopBackOff", message: `back-off ${backoff / 1000}s restarting` } };
      this.#options.onChange();
      await this.#pause(backoff);
      backoff = Math.min(BACKOFF_MS.most, backoff * 2);
      this.restartCount++;
    }
  }

  /** Ends it for good. */
  async stop(graceMs: number): Promise<void> {
    this.#ending.abort();
    await this.#child?.stop(graceMs);
  }

  /** Starts it once; undefined where it is to end before it ever started. */
  async #once(): Promise<Exit | undefined> {
    const { container, directory, clock, onChange } = this.#options;
    const messageFile = join(directory, `${container.name}.termination`);
    const child = await this.#start(messageFile);
    if (child === undefined) return undefined;
    this.#child = child;
    if (this.#ending.signal.aborted) void child.stop(0);
    const startedAt = new Date(clock.now()).toISOString();
    this.state = { running: { startedAt } };
    this.ready = container.readinessProbe === undefined && container.startupProbe === undefined;
    onChange();
    const over = new AbortController();
    const probing = this.#probe(child, over.signal);
    const exit = await child.exited;
    over.abort();
    await probing;
    this.#child = undefined;
    this.ready = false;
    const written = await readFile(messageFile, "utf8").catch(() => "");
    const isTold = container.terminationMessagePolicy === "FallbackToLogsOnError" && exit.exitCode !== 0;
    const message = written === "" && isTold ? await this.#endOfLog() : written;
    await rm(messageFile, { force: true });
    const finishedAt = new Date(clock.now()).toISOString();
    const reason = exit.exitCode === 0 ? "Completed" : "Error";
    this.state = {
      terminated: { ...exit, reason, message: message.slice(0, TERMINATION_MESSAGE_LIMIT), startedAt, finishedAt },
    };
    return exit;
  }

  /** As the kubelet takes it: 80 lines and 2 KiB at most. */
  async #endOfLog(): Promise<string> {
    const { container, directory } = this.#options;
    const log = await readFile(join(directory, `${container.name}.log`)).catch(() => Buffer.alloc(0));
    return log.subarray(-2048).toString("utf8").split("\n").slice(-80).join("\n");
  }

  async #start(messageFile: string): Promise<Child | undefined> {
    const { pod, container, podIP, volumes, directory, cliEntry, onChange } = this.#options;
    while (!this.#ending.signal.aborted) {
      try {
        const env = await volumes.environment(pod, container, podIP);
        const mappings = await volumes.mappings(pod, container);
        const inside = container.terminationMessagePath ?? TERMINATION_LOG;
        const command = commandLine(container, env, [...mappings, { inside, outside: messageFile }]);
        // An image holds compiled code; here pods may run from sources, and each would take their types out anew.
        const { PATH = "", TMPDIR = "/tmp", NODE_COMPILE_CACHE } = process.env;
        const compiled = NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };
        const inherited = { PATH, TMPDIR, HOME: directory, ...compiled };
        return new Child(
          process.execPath,
          [cliEntry, ...command.args],
          { ...inherited, ...command.env },
          join(directory, `${container.name}.log`),
        );
      } catch (error) {
        const isPassing = error instanceof NotReadyError || !(error instanceof PodRefusedError);
        this.state = {
          waiting: { reason: isPassing ? "ContainerCreating" : "CreateContainerError", message: errorMessage(error) },
        };
        onChange();
      }
      await this.#pause(NOT_READY_RETRY_MS);
    }
    return undefined;
  }

  async #probe(child: Child, over: AbortSignal): Promise<void> {
    const { startupProbe, readinessProbe, livenessProbe } = this.#options.container;
    if (startupProbe !== undefined) {
      const outcome = await this.#outcomes(startupProbe, over).next();
      if (outcome.value === undefined) return;
      if (!outcome.value) return child.kill();
      if (readinessProbe === undefined) this.#setReady(true);
    }
    const ready = async (): Promise<void> => {
      if (readinessProbe === undefined) return;
      for await (const outcome of this.#outcomes(readinessProbe, over)) this.#setReady(outcome);
    };
    const alive = async (): Promise<void> => {
      if (livenessProbe === undefined) return;
      for await (const outcome of this.#outcomes(livenessProbe, over)) if (!outcome) child.kill();
    };
    await Promise.all([ready(), alive()]);
  }

  /** What a probe says, each time a threshold was reached, until `over`. */
  async *#outcomes(probe: Probe, over: AbortSignal): AsyncGenerator<boolean, undefined> {
    const { container, podIP, clock } = this.#options;
    const state = new ProbeState(probe);
    const period = (probe.periodSeconds ?? 10) * 1000;
    await clock.sleep((probe.initialDelaySeconds ?? 0) * 1000, over).catch(() => undefined);
    while (!over.aborted) {
      state.add(await probeOnce(probe, container, podIP));
      if (over.aborted) return undefined;
      if (state.outcome !== undefined) yield state.outcome;
      // A period is made for machines under load; what is not ready yet is looked at more often here.
      await clock
        .sleep(state.outcome === true ? period : Math.min(period, NOT_READY_RETRY_MS), over)
        .catch(() => undefined);
    }
    return undefined;
  }

  #setReady(ready: boolean): void {
    if (this.ready === ready) return;
    this.ready = ready;
    this.#options.onChange();
  }

  #pause(ms: number): Promise<void> {
    return this.#options.clock.sleep(ms, this.#ending.signal).catch(() => undefined);
  }
}
