import { expect, test } from "@jest/globals";
import type { VirtualMachine, VirtualMachineInstance } from "../kinds.ts";
import { macConflict } from "./conflicts.ts";

const machine = (name: string, interfaces: object[]): VirtualMachine => ({
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachine",
  metadata: { name, namespace: "shop" },
  spec: { template: { spec: { domain: { devices: { interfaces } } } } },
});
const instance = (interfaces: object[], mac: string): VirtualMachineInstance => ({
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstance",
  metadata: { name: "orders", namespace: "shop" },
  spec: { domain: { devices: { interfaces } } },
  status: { interfaces: [{ name: "lan", mac }] },
});
const bridged = (macAddress?: string) => [{ name: "lan", bridge: {}, macAddress }];
const hidden = (macAddress?: string) => [{ name: "lan", masquerade: {}, macAddress }];
const MAC = "02:5a:17:00:00:21";

test("an address is that of a machine's manifest, or of a running one that KubeVirt gave it to", () => {
  const own = machine("copy", bridged(MAC.toUpperCase().replaceAll(":", "-")));
  expect(macConflict(own, { machines: [machine("orders", bridged(MAC))], instances: [] })?.problem).toContain(
    "VirtualMachine shop/orders",
  );
  expect(macConflict(own, { machines: [], instances: [instance(bridged(), MAC)] })?.problem).toContain(
    "the running machine shop/orders",
  );
  expect(
    macConflict(own, { machines: [machine("orders", bridged("02:5a:17:00:00:99"))], instances: [] }),
  ).toBeUndefined();
  expect(
    macConflict(machine("copy", bridged()), { machines: [], instances: [instance(bridged(), MAC)] }),
  ).toBeUndefined();
});

test("behind masquerade nobody sees an address, so it may be shared", () => {
  const both = { machines: [machine("orders", hidden(MAC))], instances: [instance(hidden(), MAC)] };
  expect(macConflict(machine("copy", bridged(MAC)), both)).toBeUndefined();
  expect(
    macConflict(machine("copy", hidden(MAC)), { machines: [machine("orders", bridged(MAC))], instances: [] }),
  ).toBeUndefined();
});
