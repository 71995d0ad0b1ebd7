import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { errorMessage } from "../../base/errors.ts";
import { type ResourceType, resourcePath } from "../../operator/runtime/objects.ts";
import { NODES, PODS, VOLUME_CLAIMS, VOLUMES, type Volume, type VolumeClaim } from "../controllers/kinds.ts";
import { type LabContext, ownKey, runLabController } from "../controllers/lab-controller.ts";
import { SELECTED_NODE } from "../controllers/volume-binder.ts";
import { PodAddresses } from "./addresses.ts";
import { hostRootOf, makeHostRoot } from "./host-root.ts";
import { PodRunner } from "./pod-runner.ts";
import type { NodePod } from "./pod-spec.ts";
import { chooseNode } from "./scheduling.ts";
import { StatusSender } from "./status-sender.ts";

const NODE_PODS: ResourceType<NodePod> = { apiVersion: "v1", kind: "Pod", plural: "pods", namespaced: true };
const HEARTBEAT_MS = 30_000;
const GRACE_SECONDS = 30;
const UNSCHEDULABLE_RETRY_MS = 500;
/** Pods with this label are run by somebody else: the hypervisor's. */
const LAUNCHER = { label: "kubevirt.io", value: "virt-launcher" } as const;

interface NodeOptions {
  /** Pods are put on the first that takes them. */
  readonly names: readonly [string, ...string[]];
  /** Pods' folders, logs and addresses lie below it. */
  readonly directory: string;
  /** The first two octets of pods' addresses. */
  readonly podPrefix: string;
  /** The command that pods run. */
  readonly cliEntry: string;
}

/** Runs the pods of all nodes, which are this machine, as child processes. */
export class LabNode {
  readonly #options: NodeOptions;
  readonly #context: LabContext;
  readonly #addresses: PodAddresses;
  readonly #runners = new Map<string, PodRunner>();

  private constructor(options: NodeOptions, context: LabContext, addresses: PodAddresses) {
    this.#options = options;
    this.#context = context;
    this.#addresses = addresses;
  }

  static async create(options: NodeOptions, context: LabContext): Promise<LabNode> {
    return new LabNode(
      options,
      context,
      await PodAddresses.open(join(options.directory, "last-address"), options.podPrefix),
    );
  }

  /** Another address that no pod has. */
  nextAddress(): Promise<string> {
    return this.#addresses.next();
  }

  /** The file that a pod's container logs to, while the pod is here. */
  logFile(namespace: string, name: string, container: string | undefined): string | undefined {
    return this.#runners.get(`${namespace}/${name}`)?.logFile(container);
  }

  /** Runs until the signal; then ends every pod's processes, and leaves their objects as they are. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#register();
    const heartbeat = this.#heartbeat(signal);
    const statuses = new StatusSender(this.#context, signal);
    const reconcile = (namespace: string, name: string): Promise<number | undefined> =>
      this.#reconcile(namespace, name, statuses);
    await runLabController({ name: "node", watches: [{ type: PODS, keys: ownKey }], reconcile }, this.#context, signal);
    await Promise.all([...this.#runners.values()].map((runner) => runner.stop(5000)));
    await heartbeat;
  }

  async #reconcile(namespace: string, name: string, statuses: StatusSender): Promise<number | undefined> {
    const key = `${namespace}/${name}`;
    const pod = await this.#context.cluster.get(NODE_PODS, namespace, name);
    const runner = this.#runners.get(key);
    if (runner !== undefined && (pod === undefined || pod.metadata.uid !== runner.uid)) {
      // Removed without asking us first.
      this.#runners.delete(key);
      await runner.stop(0);
    }
    if (pod === undefined || pod.metadata.labels?.[LAUNCHER.label] === LAUNCHER.value) return undefined;
    if (pod.spec?.nodeName === undefined) {
      return pod.metadata.deletionTimestamp === undefined ? this.#bind(pod) : undefined;
    }
    if (!this.#options.names.includes(pod.spec.nodeName)) return undefined;
    if (pod.metadata.deletionTimestamp !== undefined) {
      await this.#end(pod, key, statuses);
      return undefined;
    }
    const isOver = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    if (!this.#runners.has(key) && !isOver) await this.#start(pod, key, statuses);
    return undefined;
  }

  async #start(pod: NodePod, key: string, statuses: StatusSender): Promise<void> {
    const directory = join(this.#options.directory, "pods", pod.metadata.uid ?? "");
    const { cluster, clock, logger } = this.#context;
    const runner = new PodRunner({
      ...{ pod, directory, cluster, clock, cliEntry: this.#options.cliEntry, podIP: await this.#addresses.next() },
      hostRoot: hostRootOf(this.#options.directory, pod.spec?.nodeName ?? ""),
      onStatus: (status) => statuses.publish(pod, key, status),
    });
    this.#runners.set(key, runner);
    runner.run().catch((error: unknown) => logger.warn({ pod: key, error: errorMessage(error) }, "pod ended"));
  }

  async #end(pod: NodePod, key: string, statuses: StatusSender): Promise<void> {
    const runner = this.#runners.get(key);
    const grace = (pod.spec?.terminationGracePeriodSeconds ?? GRACE_SECONDS) * 1000;
    await runner?.stop(grace);
    this.#runners.delete(key);
    statuses.forget(key);
    const path = resourcePath(PODS, pod.metadata.namespace, pod.metadata.name);
    const body = {
      apiVersion: "v1",
      kind: "DeleteOptions",
      gracePeriodSeconds: 0,
      preconditions: { uid: pod.metadata.uid },
    };
    await this.#context.transport.request({ method: "DELETE", path, body }).catch((error: unknown) => {
      if ((error as { status?: number }).status !== 404 && (error as { status?: number }).status !== 409) throw error;
    });
  }

  /** The whole of the lab's scheduling: the first node that takes the pod. One that none takes is looked at again by and by. */
  async #bind(pod: NodePod): Promise<number | undefined> {
    const { cluster, transport, clock } = this.#context;
    const { name, namespace } = pod.metadata;
    const nodes = await Promise.all(this.#options.names.map((each) => cluster.get(NODES, undefined, each)));
    const found = nodes.filter((node) => node !== undefined);
    const { volumes, unbound } = await this.#volumesOf(pod);
    const choice = chooseNode(pod.spec ?? {}, found, volumes);
    if ("message" in choice) {
      const since = pod.status?.conditions?.find(({ type }) => type === "PodScheduled")?.lastTransitionTime;
      const lastTransitionTime = since ?? new Date(clock.now()).toISOString();
      const scheduled = { type: "PodScheduled", status: "False", reason: "Unschedulable", message: choice.message };
      const conditions = [{ ...scheduled, lastTransitionTime }];
      const metadata = { name, namespace };
      await cluster.applyStatus(PODS, { apiVersion: "v1", kind: "Pod", metadata, status: { conditions } } as never);
      return UNSCHEDULABLE_RETRY_MS;
    }
    for (const { metadata } of unbound) {
      const annotations = { [SELECTED_NODE]: choice.node };
      const claim = { name: metadata.name, namespace, annotations };
      await cluster.apply(VOLUME_CLAIMS, { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: claim } as never);
    }
    await transport.request({
      method: "POST",
      path: `${resourcePath(PODS, namespace, name)}/binding`,
      body: {
        apiVersion: "v1",
        kind: "Binding",
        metadata: { name, namespace },
        target: { apiVersion: "v1", kind: "Node", name: choice.node },
      },
    });
    return undefined;
  }

  /** The volumes that its claims are bound to, and the claims that wait for their first consumer or for being made. */
  async #volumesOf({ metadata, spec }: NodePod): Promise<{ volumes: Volume[]; unbound: VolumeClaim[] }> {
    const { cluster } = this.#context;
    const volumes: Volume[] = [];
    const unbound: VolumeClaim[] = [];
    for (const { persistentVolumeClaim: source } of spec?.volumes ?? []) {
      if (source === undefined) continue;
      const claim = await cluster.get(VOLUME_CLAIMS, metadata.namespace, source.claimName);
      const name = claim?.spec.volumeName;
      const volume = name === undefined ? undefined : await cluster.get(VOLUMES, undefined, name);
      if (volume !== undefined) volumes.push(volume);
      else if (claim !== undefined) unbound.push(claim);
    }
    return { volumes, unbound };
  }

  async #register(): Promise<void> {
    for (const name of this.#options.names) {
      await makeHostRoot(hostRootOf(this.#options.directory, name));
      const labels = { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubevirt.io/schedulable": "true" };
      await this.#context.cluster.apply(NODES, { apiVersion: "v1", kind: "Node", metadata: { name, labels } });
    }
  }

  async #heartbeat(signal: AbortSignal): Promise<void> {
    const { clock, cluster, logger } = this.#context;
    const since = new Date(clock.now()).toISOString();
    while (!signal.aborted) {
      const ready = {
        type: "Ready",
        status: "True",
        reason: "LabNodeReady",
        message: "the lab's node runs",
        lastHeartbeatTime: new Date(clock.now()).toISOString(),
        lastTransitionTime: since,
      };
      const status = {
        conditions: [ready],
        capacity: capacity(),
        allocatable: capacity(),
        addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
        nodeInfo: nodeInfo(),
      };
      for (const name of this.#options.names) {
        const object = { apiVersion: "v1", kind: "Node", metadata: { name }, status };
        await cluster.applyStatus(NODES, object).catch((error: unknown) => {
          if (!signal.aborted) logger.warn({ error: errorMessage(error) }, "heartbeat not written");
        });
      }
      await clock.sleep(HEARTBEAT_MS, signal).catch(() => undefined);
    }
  }
}

/** The machine's own; the lab keeps nobody to it. */
function capacity(): Record<string, string> {
  return { cpu: String(availableParallelism()), memory: `${Math.floor(totalmem() / 1024)}Ki`, pods: "110" };
}

function nodeInfo(): object {
  const unknown = {
    bootID: "",
    containerRuntimeVersion: "lab://1",
    kernelVersion: "",
    kubeProxyVersion: "",
    kubeletVersion: "lab",
    machineID: "",
    osImage: "lab",
    systemUUID: "",
  };
  return { ...unknown, architecture: process.arch === "x64" ? "amd64" : process.arch, operatingSystem: "linux" };
}
