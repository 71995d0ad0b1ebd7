import { existsSync } from "node:fs";
import { constants, copyFile, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { KubeConfig } from "@kubernetes/client-node";
import { systemClock } from "../../base/clock.ts";
import { createLogger } from "../../base/logging.ts";
import type { KubernetesObject, Manifest } from "../../operator/runtime/objects.ts";
import { RestCluster } from "../../operator/runtime/rest-cluster.ts";
import { Transport } from "../../operator/runtime/transport.ts";
import { type RunningApiServer, startApiServer } from "../apiserver/server.ts";
import { PODS, type Pod, VOLUME_CLAIMS, VOLUMES } from "../controllers/kinds.ts";
import type { LabContext } from "../controllers/lab-controller.ts";
import { runVolumeBinder } from "../controllers/volume-binder.ts";
import { guestCacheDirectory } from "../guest/recipe-cache.ts";
import { buildTinyGuest } from "../guest/tiny-guest.ts";
import { Hypervisor } from "./hypervisor.ts";
import {
  hasCondition,
  INSTANCES,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { installKubeVirt } from "./kubevirt-resources.ts";

const NAMESPACE = "default";
const STEP_MS = 40_000;

let directory: string;
let server: RunningApiServer;
let context: LabContext & { transport: Transport };
let hypervisor: Hypervisor;
let parts: Promise<void>[] = [];
let running: Promise<void>;
let stopHypervisor = new AbortController();
const ending = new AbortController();
let disk: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "hypervisor-"));
  disk = join(directory, "volume", "disk.img");
  await mkdir(join(directory, "volume"));
  const guest = await buildTinyGuest({ directory: guestCacheDirectory(), signal: AbortSignal.timeout(60_000) });
  await copyFile(guest, disk, constants.COPYFILE_FICLONE);
  server = await startApiServer({ kubeconfigPath: join(directory, "kubeconfig") });
  const config = new KubeConfig();
  config.loadFromFile(server.kubeconfigPath);
  const transport = new Transport(config);
  const logger = createLogger("test", "error");
  const cluster = new RestCluster(transport, ending.signal, "lab");
  context = { cluster, transport, clock: systemClock, logger };
  await installKubeVirt(cluster, systemClock.sleep);
  startHypervisor();
  parts = [runVolumeBinder(context, join(directory, "volumes"), ending.signal)];
}, 90_000);

afterAll(async () => {
  stopHypervisor.abort();
  ending.abort();
  await Promise.allSettled([running, ...parts]);
  context.transport.close();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

let last = 10;

function startHypervisor(): void {
  stopHypervisor = new AbortController();
  hypervisor = new Hypervisor(
    {
      ...{ nodeName: "lab-node", directory: join(directory, "consoles") },
      nextAddress: async () => `127.98.${process.pid % 250}.${++last}`,
      accelerator: async () => "tcg",
    },
    context,
  );
  running = hypervisor.run(stopHypervisor.signal);
}

async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  const deadline = performance.now() + STEP_MS;
  while (performance.now() < deadline) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not in time: ${what}`);
}

const create = (type: Parameters<LabContext["cluster"]["create"]>[0], object: object): Promise<void> =>
  context.cluster.create(type, object as Manifest);

function machineNamed(name: string, claimName: string): object {
  return {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name, namespace: NAMESPACE },
    spec: {
      runStrategy: "Always",
      template: {
        metadata: { labels: { app: name } },
        spec: {
          terminationGracePeriodSeconds: 30,
          domain: {
            machine: { type: "q35" },
            memory: { guest: "128Mi" },
            devices: {
              disks: [{ name: "root", disk: { bus: "virtio" } }],
              interfaces: [{ name: "default", masquerade: {} }],
              rng: {},
            },
          },
          networks: [{ name: "default", pod: {} }],
          volumes: [{ name: "root", persistentVolumeClaim: { claimName } }],
        },
      },
    },
  };
}

async function claimFor(name: string): Promise<void> {
  await create(VOLUMES, {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      ...{ capacity: { storage: "256Mi" }, accessModes: ["ReadWriteMany"], storageClassName: "" },
      ...{ hostPath: { path: join(directory, "volume") }, claimRef: { namespace: NAMESPACE, name } },
    },
  });
  await create(VOLUME_CLAIMS, {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace: NAMESPACE },
    spec: {
      ...{ accessModes: ["ReadWriteMany"], storageClassName: "", volumeName: name },
      resources: { requests: { storage: "256Mi" } },
    },
  });
}

const machine = (name: string): Promise<VirtualMachine | undefined> =>
  context.cluster.get(VIRTUAL_MACHINES, NAMESPACE, name);
const instance = (name: string): Promise<VirtualMachineInstance | undefined> =>
  context.cluster.get(INSTANCES, NAMESPACE, name);
const launchers = async (name: string): Promise<Pod[]> =>
  context.cluster.list(PODS, NAMESPACE, `vm.kubevirt.io/name=${name}`);

async function page(address: string): Promise<string | undefined> {
  try {
    const response = await fetch(`http://${address}/`, { signal: AbortSignal.timeout(3000) });
    return await response.text();
  } catch {
    return undefined;
  }
}

async function change(name: string, update: (machine: VirtualMachine) => VirtualMachine): Promise<void> {
  await until("the change", async () => {
    const current = await machine(name);
    if (current === undefined) return undefined;
    return context.cluster.replace(VIRTUAL_MACHINES, update(current) as unknown as Manifest).then(
      () => true,
      () => false,
    );
  });
}

test("a machine waits for its claim, boots, is restarted when it dies, halts through its guest, and goes", async () => {
  await create(VIRTUAL_MACHINES, machineNamed("orders", "orders-root"));
  await until(
    "the missing claim is told",
    async () => (await machine("orders"))?.status?.printableStatus === "ErrorPvcNotFound",
  );
  await claimFor("orders-root");

  const running = await until("running", async () => {
    const found = await instance("orders");
    return found?.status?.phase === "Running" && found;
  });
  const address = running.status?.interfaces?.[0]?.ipAddress ?? "";
  expect(await until("the page", () => page(address))).toBe("hostname=tiny boots=1\n");
  await until("the agent", async () => hasCondition(await machine("orders"), "AgentConnected"));
  expect(await machine("orders")).toMatchObject({
    spec: { template: { spec: { domain: { firmware: { uuid: expect.any(String), serial: expect.any(String) } } } } },
    status: { created: true, ready: true, printableStatus: "Running" },
  });
  const [pod] = await launchers("orders");
  expect(pod).toMatchObject({
    metadata: { labels: { "kubevirt.io": "virt-launcher" }, ownerReferences: [{ uid: running.metadata.uid }] },
    status: { phase: "Running", podIP: address },
  });
  expect(hypervisor.consoleFile(NAMESPACE, pod?.metadata.name ?? "")).toBeDefined();
  expect((await instance("orders"))?.status).toMatchObject({
    guestOSInfo: { prettyName: "tiny test guest" },
    volumeStatus: [{ name: "root", persistentVolumeClaimInfo: { claimName: "orders-root" } }],
  });

  // QEMU dies: a new instance takes its place, on another address.
  process.kill(hypervisor.processIds()[0] ?? 0, "SIGKILL");
  const again = await until("another instance", async () => {
    const found = await instance("orders");
    return found?.status?.phase === "Running" && found.metadata.uid !== running.metadata.uid && found;
  });
  const second = again.status?.interfaces?.[0]?.ipAddress ?? "";
  expect(second).not.toBe(address);
  expect(await until("the page again", () => page(second))).toBe("hostname=tiny boots=2\n");

  // A change of the template needs a restart, which a halt and a start are.
  await change("orders", ({ spec, ...rest }) => {
    const { domain } = spec.template.spec;
    const template = { ...spec.template, spec: { ...spec.template.spec, domain: { ...domain, cpu: { cores: 2 } } } };
    return { ...rest, spec: { ...spec, template } };
  });
  await until("restart required", async () => hasCondition(await machine("orders"), "RestartRequired"));
  const [launcher] = await launchers("orders");
  const console = hypervisor.consoleFile(NAMESPACE, launcher?.metadata.name ?? "") ?? "";
  await change("orders", ({ spec, ...rest }) => ({ ...rest, spec: { ...spec, runStrategy: "Halted" } }));
  await until("stopped", async () => (await machine("orders"))?.status?.printableStatus === "Stopped");
  expect(await instance("orders")).toBeUndefined();
  expect(await launchers("orders")).toEqual([]);
  expect(hypervisor.processIds()).toEqual([]);
  expect(await readFile(console, "utf8")).toContain("TINY POWER OFF");

  await change("orders", ({ spec, ...rest }) => ({ ...rest, spec: { ...spec, runStrategy: "Always" } }));
  await until("running again", async () => (await machine("orders"))?.status?.printableStatus === "Running");
  expect(hasCondition(await machine("orders"), "RestartRequired")).toBe(false);

  // The hypervisor ends and its machines with it; the next one finds an instance that cannot be running, and makes another.
  const lost = await instance("orders");
  const [pid = 0] = hypervisor.processIds();
  stopHypervisor.abort();
  await running;
  expect(pid).toBeGreaterThan(0);
  // Some kernels list a process that was waited for a moment longer.
  await until("QEMU is gone", async () => !existsSync(`/proc/${pid}/stat`));
  startHypervisor();
  await until("an instance of the next hypervisor", async () => {
    const found = await instance("orders");
    return found?.status?.phase === "Running" && found.metadata.uid !== lost?.metadata.uid;
  });
  expect(hypervisor.processIds()).toHaveLength(1);
  await context.cluster.delete(VIRTUAL_MACHINES, (await machine("orders")) as KubernetesObject);
  await until("gone", async () => (await machine("orders")) === undefined);
  expect(await instance("orders")).toBeUndefined();
  expect(hypervisor.processIds()).toEqual([]);
}, 150_000);
