import { constants, copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../../base/clock.ts";
import { createLogger } from "../../../base/logging.ts";
import type { Manifest, ResourceType } from "../../../operator/runtime/objects.ts";
import { RestCluster } from "../../../operator/runtime/rest-cluster.ts";
import { Transport } from "../../../operator/runtime/transport.ts";
import { VOLUME_CLAIMS, VOLUMES } from "../../controllers/kinds.ts";
import type { LabContext } from "../../controllers/lab-controller.ts";
import { runVolumeBinder } from "../../controllers/volume-binder.ts";
import { guestCacheDirectory } from "../../guest/recipe-cache.ts";
import { buildTinyGuest } from "../../guest/tiny-guest.ts";
import { startTestControlPlane } from "../../testing/test-control-plane.ts";
import { VIRTUAL_MACHINES, type VirtualMachine } from "../kinds.ts";
import { installKubeVirt } from "../kubevirt-resources.ts";

// An API server with KubeVirt's kinds, claims that are folders, and a tiny guest to boot from one of them.

export const NAMESPACE = "default";
const STEP_MS = 100_000;

/** Waits until what is looked for is there. @param state what is told where it does not come */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  state: () => Promise<unknown> = async () => "",
): Promise<T> {
  const deadline = performance.now() + STEP_MS;
  while (performance.now() < deadline) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  throw new Error(`not in time: ${what}: ${JSON.stringify(await state())}`);
}

/** What the guest's web server says; undefined where it does not answer. */
export async function page(address: string): Promise<string | undefined> {
  try {
    const response = await fetch(`http://${address}/`, { signal: AbortSignal.timeout(3000) });
    return await response.text();
  } catch {
    return undefined;
  }
}

export class TinyMachineLab {
  readonly directory: string;
  readonly context: LabContext;
  /** Ends what runs beside it. */
  readonly ending: AbortController;
  readonly #close: () => Promise<void>;

  private constructor(directory: string, context: LabContext, ending: AbortController, close: () => Promise<void>) {
    this.directory = directory;
    this.context = context;
    this.ending = ending;
    this.#close = close;
  }

  /** The guest's disk is `disk.img` in the folder `volume`. */
  static async start(): Promise<TinyMachineLab> {
    const guest = await buildTinyGuest({ directory: guestCacheDirectory(), signal: AbortSignal.timeout(60_000) });
    const plane = await startTestControlPlane();
    const directory = plane.folder;
    await mkdir(join(directory, "volume"));
    await copyFile(guest, join(directory, "volume", "disk.img"), constants.COPYFILE_FICLONE);
    const transport = new Transport(plane.config);
    const ending = new AbortController();
    const cluster = new RestCluster(transport, ending.signal, "lab");
    const context = { cluster, transport, clock: systemClock, logger: createLogger("test", "error") };
    await installKubeVirt(cluster, systemClock.sleep);
    const binder = runVolumeBinder(context, join(directory, "volumes"), ending.signal);
    return new TinyMachineLab(directory, context, ending, async () => {
      await Promise.allSettled([binder]);
      transport.close();
      await plane.close();
    });
  }

  /** @param parts what else runs, until {@link ending} says that it ends */
  async close(...parts: readonly Promise<void>[]): Promise<void> {
    this.ending.abort();
    await Promise.allSettled(parts);
    await this.#close();
  }

  create(type: ResourceType, object: object): Promise<void> {
    return this.context.cluster.create(type, object as Manifest);
  }

  claim(name: string, spec: object, storage: string): Promise<void> {
    return this.create(VOLUME_CLAIMS as ResourceType, {
      ...{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, namespace: NAMESPACE } },
      spec: { ...spec, resources: { requests: { storage } } },
    });
  }

  /** A claim on the guest's disk, which several nodes may mount. */
  async claimDisk(name: string, storage: string): Promise<void> {
    const spec = { accessModes: ["ReadWriteMany"], storageClassName: "" };
    await this.create(VOLUMES as ResourceType, {
      ...{ apiVersion: "v1", kind: "PersistentVolume", metadata: { name } },
      spec: {
        ...spec,
        capacity: { storage },
        hostPath: { path: join(this.directory, "volume") },
        claimRef: { namespace: NAMESPACE, name },
      },
    });
    await this.claim(name, { ...spec, volumeName: name }, storage);
  }

  createMachine(name: string, claimName: string): Promise<void> {
    const disks = [{ name: "root", disk: { bus: "virtio" } }];
    const interfaces = [{ name: "default", masquerade: {} }];
    return this.create(VIRTUAL_MACHINES as ResourceType, {
      ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: { name, namespace: NAMESPACE } },
      spec: {
        runStrategy: "Always",
        template: {
          metadata: { labels: { app: name } },
          spec: {
            terminationGracePeriodSeconds: 30,
            domain: { machine: { type: "q35" }, memory: { guest: "128Mi" }, devices: { disks, interfaces, rng: {} } },
            networks: [{ name: "default", pod: {} }],
            volumes: [{ name: "root", persistentVolumeClaim: { claimName } }],
          },
        },
      },
    });
  }

  /** Changes a machine's spec, again where somebody else changed the machine meanwhile. */
  async change(name: string, update: (spec: VirtualMachine["spec"]) => VirtualMachine["spec"]): Promise<void> {
    const { cluster } = this.context;
    await until("the change", async () => {
      const current = await cluster.get(VIRTUAL_MACHINES, NAMESPACE, name);
      if (current === undefined) return undefined;
      const changed = { ...current, spec: update(current.spec) } as unknown as Manifest;
      return cluster.replace(VIRTUAL_MACHINES as ResourceType, changed).then(
        () => true,
        () => false,
      );
    });
  }
}
