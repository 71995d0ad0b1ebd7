import { type DiskBus, diskBus } from "../../api/agent-control.ts";
import type { Action } from "../actions.ts";
import type { DiskDevice } from "../kinds.ts";
import type { Observed } from "./observed.ts";
import { acts, type Outcome, passed } from "./step.ts";

/** What KubeVirt gives a disk without one. It has timers, so nothing is lost if a preference makes it another. */
const DEFAULT_BUS: DiskBus = "sata";

/** The agent answers a guest in time whose disks have timers: it is told as soon as KubeVirt has decided, and whenever that changes. */
export function tellBuses(observed: Observed): Outcome {
  const { instance, machine } = observed;
  const devices = instance?.spec?.domain?.devices ?? machine?.spec?.template?.spec?.domain?.devices;
  const actions = busActions(observed, devices?.disks ?? []);
  return actions.length === 0 ? passed() : acts(actions);
}

/** What the agent does not know yet of the disks that it serves. */
export function busActions({ agent }: Observed, devices: readonly DiskDevice[]): Action[] {
  return devices.flatMap((device): Action[] => {
    const served = agent.status?.disks.find(({ name }) => name === device.name);
    const target = device.disk ?? device.lun;
    if (served === undefined || target === undefined) return [];
    const bus = diskBus.safeParse(target.bus).data ?? DEFAULT_BUS;
    if ((served.bus ?? "virtio") === bus) return [];
    const what = `bus ${bus} of ${served.name}`;
    return [{ do: "agent", what, call: (control) => control.setBus(served.name, bus) }];
  });
}
