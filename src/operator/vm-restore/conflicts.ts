import type { VMRestoreSpec } from "../../api/vm-restore.ts";
import type { VirtualMachine } from "../kinds.ts";
import { at, isRecord } from "./manifest/shape.ts";
import type { Observed } from "./observed.ts";

export interface Conflict {
  readonly reason: string;
  readonly problem: string;
}

/**
 * Whether a machine that is about to be made has an address that another one has. Behind `masquerade` (and `passt`) on the pod network
 * a guest's address is seen by nobody, so machines may share it there.
 */
export function macConflict(machine: VirtualMachine, neighbours: Observed["neighbours"]): Conflict | undefined {
  const own = visibleAddresses(machine.spec?.template?.spec);
  if (own.length === 0) return undefined;
  const taken = new Map<string, string>();
  for (const { metadata, spec } of neighbours.machines) {
    for (const mac of visibleAddresses(spec?.template?.spec)) taken.set(mac, `VirtualMachine ${nameOf(metadata)}`);
  }
  for (const { metadata, status, spec } of neighbours.instances) {
    const hidden = hiddenInterfaces(spec);
    for (const { name, mac } of status?.interfaces ?? []) {
      if (mac !== undefined && !hidden.has(name ?? ""))
        taken.set(plain(mac), `the running machine ${nameOf(metadata)}`);
    }
  }
  const shared = own.find((mac) => taken.has(mac));
  if (shared === undefined) return undefined;
  return {
    reason: "MacAddressInUse",
    problem: `The MAC address ${shared} is that of ${taken.get(shared)}. Set spec.virtualMachine.macAddresses to Regenerate, map the machine into other networks, or delete that machine.`,
  };
}

/** Whether anybody else may have an address that this machine has: only then is it worth while to look at all others. */
export function hasVisibleAddress(machine: VirtualMachine): boolean {
  return visibleAddresses(machine.spec?.template?.spec).length > 0;
}

/** What two machines of one identity lead to is up to their software: worth a word, no reason to refuse. */
export function sharedIdentity(
  machine: VirtualMachine,
  spec: VMRestoreSpec,
  { machines }: Observed["neighbours"],
): string {
  if (spec.virtualMachine.firmwareIdentity === "Regenerate") return "";
  const uuidOf = ({ spec: given }: VirtualMachine) => at(given?.template, "spec", "domain", "firmware").uuid;
  const uuid = uuidOf(machine);
  const twin = machines.find((other) => uuid !== undefined && uuidOf(other) === uuid);
  return twin === undefined ? "" : ` It has the firmware UUID of VirtualMachine ${nameOf(twin.metadata)}.`;
}

function visibleAddresses(spec: unknown): string[] {
  const hidden = hiddenInterfaces(spec);
  return interfacesOf(spec).flatMap(({ name, macAddress }) =>
    typeof macAddress === "string" && !hidden.has(String(name)) ? [plain(macAddress)] : [],
  );
}

function hiddenInterfaces(spec: unknown): Set<string> {
  return new Set(
    interfacesOf(spec)
      .filter(({ masquerade, passt, passtBinding }) => (masquerade ?? passt ?? passtBinding) !== undefined)
      .map(({ name }) => String(name)),
  );
}

function interfacesOf(spec: unknown): Record<string, unknown>[] {
  const { interfaces } = at(spec, "domain", "devices");
  return Array.isArray(interfaces) ? interfaces.filter(isRecord) : [];
}

function plain(mac: string): string {
  return mac.toLowerCase().replaceAll("-", ":");
}

function nameOf({ namespace, name }: { namespace?: string; name: string }): string {
  return `${namespace}/${name}`;
}
