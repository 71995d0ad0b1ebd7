import { Worker } from "node:worker_threads";
import { errorMessage } from "../../base/errors.ts";
import { workerUrl } from "../../base/worker-url.ts";
import { Portmapper } from "../../nfs/portmapper.ts";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import { isReady } from "../controllers/job.ts";
import { type LabObject, PODS, type Pod } from "../controllers/kinds.ts";
import { type LabContext, runLabController } from "../controllers/lab-controller.ts";

export interface Listener {
  readonly address: string;
  readonly port: number;
  /** Its clients are QEMU's own NFS driver: see `StableWrites`. */
  readonly isNfs: boolean;
  /** Undefined while no pod is ready. */
  readonly target: { readonly address: string; readonly port: number } | undefined;
}

interface Service extends LabObject {
  spec: {
    clusterIP?: string;
    type?: string;
    selector?: Record<string, string>;
    ports?: { name?: string; port: number; targetPort?: number | string; protocol?: string }[];
  };
}

interface ServedPod extends Pod {
  spec?: NonNullable<Pod["spec"]> & { containers?: { ports?: { name?: string; containerPort: number }[] }[] };
}

const SERVICES: ResourceType<Service> = { apiVersion: "v1", kind: "Service", plural: "services", namespaced: true };
/** QEMU's own NFS driver asks a portmapper for the port; clients that are told it never do. */
const NFS_PORT_NAME = "nfs";

/** The listeners that Services ask for, each with the ready pod that stands behind it. */
export function listenersOf(services: readonly Service[], pods: readonly ServedPod[]): Listener[] {
  return services.flatMap(({ metadata, spec }) => {
    const address = spec.clusterIP;
    if (address === undefined || !address.startsWith("127.") || spec.selector === undefined) return [];
    const selector = Object.entries(spec.selector);
    const pod = pods.find(
      (candidate) =>
        candidate.metadata.namespace === metadata.namespace &&
        candidate.metadata.deletionTimestamp === undefined &&
        isReady(candidate) &&
        selector.every(([key, value]) => candidate.metadata.labels?.[key] === value),
    );
    const podIP = pod?.status?.podIP;
    return (spec.ports ?? [])
      .filter(({ protocol = "TCP" }) => protocol === "TCP")
      .map(({ name, port, targetPort = port }) => {
        const number = typeof targetPort === "number" ? targetPort : namedPort(pod, targetPort);
        return {
          address,
          port,
          isNfs: name === NFS_PORT_NAME,
          target: podIP === undefined || number === undefined ? undefined : { address: podIP, port: number },
        };
      });
  });
}

function namedPort(pod: ServedPod | undefined, name: string): number | undefined {
  return pod?.spec?.containers?.flatMap(({ ports = [] }) => ports).find((port) => port.name === name)?.containerPort;
}

/** Forwards connections to Services' addresses, which are loopback addresses in the lab, to their pods. Runs until the signal. */
export async function runServiceProxy(context: LabContext, signal: AbortSignal): Promise<void> {
  const worker = new Worker(workerUrl(import.meta.url, "./proxy-worker"));
  worker.on("message", (problem: object) => context.logger.warn(problem, "service cannot be served"));
  const portmappers = new Map<string, Promise<Portmapper | undefined>>();
  const reconcile = async (): Promise<undefined> => {
    const services = await context.cluster.list(SERVICES, undefined);
    worker.postMessage(listenersOf(services, await context.cluster.list(PODS, undefined)));
    const wanted = new Map<string, number>();
    for (const { spec } of services) {
      const port = spec.ports?.find(({ name }) => name === NFS_PORT_NAME)?.port;
      if (port !== undefined && spec.clusterIP?.startsWith("127.") === true) wanted.set(spec.clusterIP, port);
    }
    for (const [address, port] of wanted) {
      if (portmappers.has(address)) continue;
      const started = Portmapper.listen(address, port).catch((error: unknown) => {
        context.logger.warn({ address, error: errorMessage(error) }, "no portmapper: QEMU cannot mount from here");
        return undefined;
      });
      portmappers.set(address, started);
    }
    for (const [address, portmapper] of portmappers) {
      if (wanted.has(address)) continue;
      portmappers.delete(address);
      await (await portmapper)?.close();
    }
  };
  const everything = (_object: KubernetesObject): string[] => ["/all"];
  const watches = [
    { type: SERVICES, keys: everything },
    { type: PODS, keys: everything },
  ];
  await runLabController({ name: "service-proxy", watches, reconcile }, context, signal);
  for (const portmapper of portmappers.values()) await (await portmapper)?.close();
  await worker.terminate();
}
