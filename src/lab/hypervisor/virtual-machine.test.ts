import { expect, test } from "@jest/globals";
import type { Condition, InstancePhase, VirtualMachine, VirtualMachineInstance } from "./kinds.ts";
import { decideVirtualMachine, runStrategyOf, TEMPLATE_ANNOTATION, templateDigest } from "./virtual-machine.ts";

const DELETED = { deletionTimestamp: "2026-01-01T00:00:00Z" };

function machine(spec: object = { runStrategy: "Always" }, metadata: object = {}): VirtualMachine {
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", metadata: { name: "vm", namespace: "ns", ...metadata } },
    spec: { template: { spec: { domain: { cpu: { cores: 1 } } } }, ...spec },
  };
}

function instance(phase: InstancePhase, conditions: Condition[] = [], metadata: object = {}): VirtualMachineInstance {
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstance", spec: {}, status: { phase, conditions } },
    metadata: { name: "vm", namespace: "ns", ...metadata },
  };
}

test.each([
  ["Always", undefined, "create"],
  ["Always", "Running", "keep"],
  ["Always", "Succeeded", "delete"],
  ["Always", "Failed", "delete"],
  ["RerunOnFailure", undefined, "create"],
  ["RerunOnFailure", "Succeeded", "keep"],
  ["RerunOnFailure", "Failed", "delete"],
  ["Once", "Failed", "keep"],
  ["Halted", undefined, "keep"],
  ["Halted", "Running", "delete"],
  ["Halted", "Succeeded", "delete"],
  ["Manual", undefined, "keep"],
  ["Manual", "Running", "keep"],
] as const)("%s with an instance that is %s: %s", (runStrategy, phase, wanted) => {
  const found = phase === undefined ? undefined : instance(phase);
  const decision = decideVirtualMachine(machine({ runStrategy }), found);
  expect([decision.createInstance, decision.deleteInstance]).toEqual([wanted === "create", wanted === "delete"]);
  // What is being deleted already is not deleted again.
  if (found === undefined) return;
  const going = decideVirtualMachine(machine({ runStrategy }), {
    ...found,
    metadata: { ...found.metadata, ...DELETED },
  });
  expect([going.createInstance, going.deleteInstance]).toEqual([false, false]);
});

test("`running` is read where there is no run strategy", () => {
  expect(runStrategyOf(machine({ running: true }))).toBe("Always");
  expect(runStrategyOf(machine({ running: false }))).toBe("Halted");
  expect(runStrategyOf(machine({}))).toBe("Halted");
  expect(runStrategyOf(machine({ running: true, runStrategy: "Manual" }))).toBe("Manual");
});

test("a machine that is deleted goes when its instance is gone", () => {
  const deleted = machine({ runStrategy: "Always" }, DELETED);
  expect(decideVirtualMachine(deleted, instance("Running"))).toMatchObject({
    ...{ createInstance: false, deleteInstance: true, mayGo: false, printableStatus: "Terminating" },
  });
  expect(decideVirtualMachine(deleted, undefined)).toMatchObject({ createInstance: false, mayGo: true });
});

test("the status that people read", () => {
  const said = (found: VirtualMachineInstance | undefined, runStrategy = "Always"): string =>
    decideVirtualMachine(machine({ runStrategy }), found).printableStatus;
  expect(said(undefined)).toBe("Starting");
  expect(said(undefined, "Halted")).toBe("Stopped");
  expect(said(instance("Scheduling"))).toBe("Starting");
  expect(said(instance("Running"))).toBe("Running");
  expect(said(instance("Running", [{ type: "Paused", status: "True" }]))).toBe("Paused");
  expect(said(instance("Running", [], DELETED), "Halted")).toBe("Stopping");
  expect(said(instance("Succeeded"), "Halted")).toBe("Stopped");
  const missing: Condition = { type: "Synchronized", status: "False", reason: "FailedPvcNotFound" };
  expect(said(instance("Scheduling", [missing]))).toBe("ErrorPvcNotFound");
});

test("conditions are the instance's, and a changed template needs a restart", () => {
  const vm = machine();
  const started = { annotations: { [TEMPLATE_ANNOTATION]: templateDigest(vm) } };
  const conditions: Condition[] = [
    { type: "Ready", status: "True" },
    { type: "AgentConnected", status: "True" },
    { type: "SomethingElse", status: "True" },
  ];
  const types = (decided: VirtualMachine): string[] =>
    decideVirtualMachine(decided, instance("Running", conditions, started)).conditions.map(({ type }) => type);
  expect(types(vm)).toEqual(["Ready", "AgentConnected"]);
  expect(decideVirtualMachine(vm, undefined).conditions).toEqual([
    { type: "Ready", status: "False", reason: "VMINotExists", message: "VMI does not exist" },
  ]);
  const changed = machine({ runStrategy: "Always", template: { spec: { domain: { cpu: { cores: 2 } } } } });
  expect(types(changed)).toEqual(["Ready", "AgentConnected", "RestartRequired"]);
  // Metadata of the template and the order of fields are no change.
  const same = machine({
    runStrategy: "Always",
    template: { metadata: { labels: { a: "b" } }, spec: vm.spec.template.spec },
  });
  expect(types(same)).toEqual(["Ready", "AgentConnected"]);
});
