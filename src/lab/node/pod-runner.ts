import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Cluster } from "../../operator/runtime/cluster.ts";
import { ContainerRunner } from "./container-runner.ts";
import type { NodePod, PodStatus } from "./pod-spec.ts";
import { PodVolumes } from "./pod-volumes.ts";

interface PodRunnerOptions {
  readonly pod: NodePod;
  readonly podIP: string;
  /** The pod's own, below the node's. */
  readonly directory: string;
  readonly cliEntry: string;
  /** The folder that stands for the node's own files. */
  readonly hostRoot: string;
  readonly cluster: Cluster;
  readonly clock: Clock;
  /** The status is another than before. */
  readonly onStatus: (status: PodStatus) => void;
}

/** One pod: its volumes, its containers, and what its status says. */
export class PodRunner {
  readonly uid: string;
  readonly podIP: string;
  readonly #options: PodRunnerOptions;
  readonly #containers: ContainerRunner[];
  readonly #volumes: PodVolumes;
  readonly #startTime: string;
  readonly #since = new Map<string, { status: string; at: string }>();
  #stopped = false;

  constructor(options: PodRunnerOptions) {
    const { pod, directory, podIP, cliEntry, clock, cluster } = options;
    this.#options = options;
    this.uid = pod.metadata.uid ?? "";
    this.podIP = podIP;
    this.#volumes = new PodVolumes(cluster, directory, options.hostRoot);
    this.#startTime = new Date(clock.now()).toISOString();
    this.#containers = (pod.spec?.containers ?? []).map((container) => {
      const before = pod.status?.containerStatuses?.find(({ name }) => name === container.name);
      const restarts = before?.state.running === undefined ? (before?.restartCount ?? 0) : before.restartCount + 1;
      return new ContainerRunner({
        pod,
        container,
        podIP,
        volumes: this.#volumes,
        directory,
        cliEntry,
        clock,
        restarts,
        onChange: () => this.#tell(),
      });
    });
  }

  logFile(container: string | undefined): string {
    return join(this.#options.directory, `${container ?? this.#containers[0]?.name}.log`);
  }

  /** Runs until every container has ended for good. */
  async run(): Promise<void> {
    await mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
    this.#tell();
    await Promise.all(this.#containers.map((container) => container.run()));
    this.#tell();
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#containers.map((container) => container.stop(graceMs)));
    await this.#volumes.remove();
  }

  #tell(): void {
    this.#options.onStatus(this.#status());
  }

  #status(): PodStatus {
    const all = this.#containers;
    const isOver = all.every(({ finished }) => finished !== undefined);
    const isReady = !isOver && !this.#stopped && all.every(({ ready }) => ready);
    const hasStarted = all.every(({ state, restartCount }) => state.waiting === undefined || restartCount > 0);
    const phase = isOver
      ? all.every(({ finished }) => finished?.exitCode === 0)
        ? "Succeeded"
        : "Failed"
      : hasStarted
        ? "Running"
        : "Pending";
    const ready = isReady ? "True" : "False";
    return {
      phase,
      podIP: this.podIP,
      podIPs: [{ ip: this.podIP }],
      hostIP: "127.0.0.1",
      startTime: this.#startTime,
      conditions: [
        this.#condition("Initialized", "True"),
        this.#condition("ContainersReady", ready),
        this.#condition("Ready", ready),
        this.#condition("PodScheduled", "True"),
      ],
      containerStatuses: all.map(({ name, state, lastState, ready: containerReady, restartCount }) => ({
        name,
        image: this.#options.pod.spec?.containers.find((container) => container.name === name)?.image ?? "",
        imageID: "",
        ready: containerReady,
        started: state.running !== undefined,
        restartCount,
        state,
        lastState,
      })),
    };
  }

  #condition(type: string, status: string): { type: string; status: string; lastTransitionTime: string } {
    const known = this.#since.get(type);
    const at = known?.status === status ? known.at : new Date(this.#options.clock.now()).toISOString();
    this.#since.set(type, { status, at });
    return { type, status, lastTransitionTime: at };
  }
}
