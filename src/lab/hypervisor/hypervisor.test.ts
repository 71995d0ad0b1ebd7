import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { KubernetesObject } from "../../operator/runtime/objects.ts";
import { PODS, type Pod } from "../controllers/kinds.ts";
import type { LabContext } from "../controllers/lab-controller.ts";
import { Hypervisor } from "./hypervisor.ts";
import {
  hasCondition,
  INSTANCES,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "./kinds.ts";
import { NAMESPACE, page, TinyMachineLab, until } from "./testing/tiny-machine.ts";

let lab: TinyMachineLab;
let context: LabContext;
let hypervisor: Hypervisor;
let running: Promise<void>;
let stopHypervisor = new AbortController();

beforeAll(async () => {
  lab = await TinyMachineLab.start();
  ({ context } = lab);
  startHypervisor();
}, 90_000);

afterAll(async () => {
  stopHypervisor.abort();
  await lab.close(running);
});

let last = 10;

function startHypervisor(): void {
  stopHypervisor = new AbortController();
  hypervisor = new Hypervisor(
    {
      ...{ nodeName: "lab-node", directory: join(lab.directory, "consoles") },
      nextAddress: async () => `127.98.${process.pid % 250}.${++last}`,
      accelerator: async () => "tcg",
    },
    context,
  );
  running = hypervisor.run(stopHypervisor.signal);
}

const machine = (name: string): Promise<VirtualMachine | undefined> =>
  context.cluster.get(VIRTUAL_MACHINES, NAMESPACE, name);
const instance = (name: string): Promise<VirtualMachineInstance | undefined> =>
  context.cluster.get(INSTANCES, NAMESPACE, name);
const launchers = async (name: string): Promise<Pod[]> =>
  context.cluster.list(PODS, NAMESPACE, `vm.kubevirt.io/name=${name}`);

test("a machine waits for its claim, boots, is restarted when it dies, halts through its guest, and goes", async () => {
  await lab.createMachine("orders", "orders-root");
  await until(
    "the missing claim is told",
    async () => (await machine("orders"))?.status?.printableStatus === "ErrorPvcNotFound",
  );
  await lab.claimDisk("orders-root", "256Mi");

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
  await lab.change("orders", (spec) => {
    const { domain } = spec.template.spec;
    const template = { ...spec.template, spec: { ...spec.template.spec, domain: { ...domain, cpu: { cores: 2 } } } };
    return { ...spec, template };
  });
  await until("restart required", async () => hasCondition(await machine("orders"), "RestartRequired"));
  const [launcher] = await launchers("orders");
  const console = hypervisor.consoleFile(NAMESPACE, launcher?.metadata.name ?? "") ?? "";
  await lab.change("orders", (spec) => ({ ...spec, runStrategy: "Halted" }));
  await until("stopped", async () => (await machine("orders"))?.status?.printableStatus === "Stopped");
  expect(await instance("orders")).toBeUndefined();
  expect(await launchers("orders")).toEqual([]);
  expect(hypervisor.processIds()).toEqual([]);
  expect(await readFile(console, "utf8")).toContain("TINY POWER OFF");

  await lab.change("orders", (spec) => ({ ...spec, runStrategy: "Always" }));
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
