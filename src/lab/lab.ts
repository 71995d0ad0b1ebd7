import { spawn } from "node:child_process";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { KubeConfig } from "@kubernetes/client-node";
import { parse } from "yaml";
import { systemClock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import { type Logger, silentLogger } from "../base/logging.ts";
import type { KubernetesObject, Manifest, ResourceType } from "../operator/runtime/objects.ts";
import { RestCluster } from "../operator/runtime/rest-cluster.ts";
import { Transport } from "../operator/runtime/transport.ts";
import type { PodLogs } from "./apiserver/http/pod-log.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { runDisruptionController } from "./controllers/disruption.ts";
import { runGarbageCollector } from "./controllers/garbage-collector.ts";
import { runJobController } from "./controllers/job.ts";
import { STORAGE_CLASSES } from "./controllers/kinds.ts";
import type { LabContext } from "./controllers/lab-controller.ts";
import { runNamespaceController } from "./controllers/namespace.ts";
import { runNodeTaints } from "./controllers/node-taints.ts";
import { runStatefulSetController } from "./controllers/stateful-set.ts";
import { FOLDER_PROVISIONER, runVolumeBinder } from "./controllers/volume-binder.ts";
import { runVolumeProtection } from "./controllers/volume-protection.ts";
import { guestCacheDirectory } from "./guest/recipe-cache.ts";
import { buildTinyGuest } from "./guest/tiny-guest.ts";
import { chooseAccelerator } from "./hypervisor/accelerator.ts";
import { Hypervisor } from "./hypervisor/hypervisor.ts";
import { installKubeVirt } from "./hypervisor/kubevirt-resources.ts";
import { takeLoopbackBlock } from "./loopback-block.ts";
import { LabNode } from "./node/node.ts";
import { runServiceProxy } from "./node/service-proxy.ts";

const FIELD_MANAGER = "vmrestore-lab";
/** Two, so that machines can be migrated from one to the other. */
const NODE_NAMES = ["lab-node", "lab-node-2"] as const;
const DEFINITIONS: ResourceType = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};
const ESTABLISHED_RETRY_MS = 100;

export interface LabOptions {
  /** Everything of the lab lies below it: the API server's objects, volumes, pods' logs. */
  readonly directory: string;
  /** The entry file of the `vmrestore` command, which pods run. */
  readonly cliEntry: string;
  /** The folder of this product's CustomResourceDefinitions. */
  readonly crds: string;
  /** Where built guests are kept. */
  readonly guests?: string;
  readonly logger?: Logger;
}

export interface Lab {
  /** Whose API server it has. */
  readonly kind: ControlPlane["kind"];
  readonly kubeconfigPath: string;
  /** Ends every process and connection of the lab. */
  close(): Promise<void>;
}

/**
 * An embedded cluster for trying and testing: an API server, the controllers that a cluster has, one node that runs pods as child
 * processes, and a hypervisor that runs VirtualMachines in QEMU. No isolation, no quotas: not for anything that matters.
 */
export async function startLab(options: LabOptions): Promise<Lab> {
  const { directory, cliEntry, crds, logger = silentLogger } = options;
  const volumes = join(directory, "volumes");
  await mkdir(volumes, { recursive: true, mode: 0o700 });
  const guests = options.guests ?? guestCacheDirectory();
  let node: LabNode | undefined;
  let hypervisor: Hypervisor | undefined;
  const podLogs: PodLogs = ({ namespace, name, container, follow, tailLines, signal }) => {
    const file =
      hypervisor?.consoleFile(namespace, name) ??
      node?.logFile(namespace, name, container === "" ? undefined : container);
    return file === undefined ? Readable.from([]) : tail(file, follow, tailLines, signal);
  };
  const block = await takeLoopbackBlock(directory);
  const controlPlane = await startControlPlane({
    serviceClusterIpRange: block.serviceRange,
    kubeconfigPath: join(directory, "kubeconfig"),
    dataDir: join(directory, "objects"),
    podLogs,
    logger,
  });
  const ending = new AbortController();
  const transport = transportTo(controlPlane.kubeconfigPath);
  const cluster = new RestCluster(transport, ending.signal, FIELD_MANAGER);
  const context: LabContext = { cluster, transport, clock: systemClock, logger };
  await installDefinitions(context, crds);
  await installKubeVirt(cluster, (ms) => systemClock.sleep(ms));
  await installStorageClasses(context);
  node = await LabNode.create({ names: NODE_NAMES, directory, cliEntry, podPrefix: block.podPrefix }, context);
  const running = node;
  hypervisor = new Hypervisor(
    {
      nodeName: NODE_NAMES[0],
      directory: join(directory, "consoles"),
      nextAddress: () => running.nextAddress(),
      accelerator: () => chooseAccelerator(() => buildTinyGuest({ directory: guests, signal: ending.signal })),
    },
    context,
  );
  const parts = [
    node.run(ending.signal),
    hypervisor.run(ending.signal),
    runServiceProxy(context, ending.signal),
    runVolumeBinder(context, volumes, ending.signal),
    runJobController(context, ending.signal),
    runStatefulSetController(context, ending.signal),
    runVolumeProtection(context, ending.signal),
    runDisruptionController(context, ending.signal),
    runNodeTaints(context, ending.signal),
    runNamespaceController(context, ending.signal),
    runGarbageCollector(context, ending.signal),
  ];
  for (const part of parts)
    part.catch((error: unknown) => logger.error({ error: errorMessage(error) }, "a part of the lab ended"));
  return {
    kind: controlPlane.kind,
    kubeconfigPath: controlPlane.kubeconfigPath,
    async close() {
      ending.abort();
      await Promise.allSettled(parts);
      transport.close();
      await controlPlane.close();
      await block.release();
    },
  };
}

function transportTo(kubeconfigPath: string): Transport {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfigPath);
  return new Transport(config);
}

async function installDefinitions({ cluster, clock }: LabContext, folder: string): Promise<void> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".yaml"));
  for (const file of files) {
    const definition = parse(await readFile(join(folder, file), "utf8")) as Manifest;
    await cluster.apply(DEFINITIONS, definition);
    for (;;) {
      const found = await cluster.get<
        KubernetesObject & { status?: { conditions?: { type: string; status: string }[] } }
      >(DEFINITIONS as never, undefined, definition.metadata.name);
      if (found?.status?.conditions?.some(({ type, status }) => type === "Established" && status === "True")) break;
      await clock.sleep(ESTABLISHED_RETRY_MS);
    }
  }
}

/** `fast` stands for primary storage, `local` for a node's own disk. */
async function installStorageClasses({ cluster }: LabContext): Promise<void> {
  for (const name of ["fast", "local"]) {
    const annotations = { "storageclass.kubernetes.io/is-default-class": String(name === "fast") };
    await cluster.apply(STORAGE_CLASSES, {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: { name, annotations },
      provisioner: FOLDER_PROVISIONER,
      reclaimPolicy: "Delete",
      volumeBindingMode: "Immediate",
      allowVolumeExpansion: true,
    });
  }
}

function tail(file: string, follow: boolean, lines: number | undefined, signal: AbortSignal): Readable {
  const from = lines === undefined ? "+1" : String(lines);
  const child = spawn("tail", ["-n", from, ...(follow ? ["-F"] : []), file], {
    stdio: ["ignore", "pipe", "ignore"],
    signal,
  });
  child.on("error", () => undefined);
  return child.stdout;
}
