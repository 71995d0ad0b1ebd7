import type { VMRestoreSpec } from "../../../api/vm-restore.ts";
import { INTERFACE_FIELDS, NETWORK_FIELDS } from "./domain-fields.ts";
import { isRecord, type LeftOut, takeFields } from "./shape.ts";
import type { SourceManifest } from "./source-manifest.ts";

type Fields = Record<string, unknown>;

/** Ways to plug an interface in. Which of them is possible depends on the network. */
const BINDINGS = ["bridge", "masquerade", "sriov", "macvtap", "passt", "passtBinding", "slirp", "binding"];
const EVERY = "*";
const POD = "pod";
const NONE = "none";

export interface Networking {
  readonly networks: readonly Fields[];
  readonly interfaces: readonly Fields[];
}

/**
 * The networks and interfaces of the new machine. Without any, KubeVirt must be told not to attach the pod network by itself.
 *
 * @param macs addresses that the machine had, by interface, where its manifest tells none
 */
export function networkingOf(
  source: SourceManifest,
  spec: VMRestoreSpec,
  macs: ReadonlyMap<string, string>,
  leftOut: LeftOut,
): Networking | { readonly problem: string } {
  const { networks: policy, macAddresses } = spec.virtualMachine;
  if (policy === "Disconnect") return { networks: [], interfaces: [] };
  const { networks: given, domain } = source.spec.template.spec;
  const all = (given ?? []).map((network) => takeFields(network, NETWORK_FIELDS, `network ${network.name}`, leftOut));
  const networks = policy === "Map" ? mapNetworks(all, spec.virtualMachine.networkMap ?? []) : all.map(unchanged);
  if ("problem" in networks) return networks;
  const byName = new Map(networks.map((mapped) => [mapped.network.name, mapped]));
  const interfaces = (domain.devices?.interfaces ?? []).flatMap((nic) => {
    const mapped = byName.get(nic.name);
    if (mapped === undefined) return [];
    const taken = takeFields(nic, INTERFACE_FIELDS, `interface ${nic.name}`, leftOut);
    const { macAddress = macs.get(nic.name), ...others } = rebound(taken, mapped.binding);
    return [macAddresses === "Keep" && macAddress !== undefined ? { ...others, macAddress } : others];
  });
  const attached = new Set(interfaces.map(({ name }) => name));
  return { networks: networks.map(({ network }) => network).filter(({ name }) => attached.has(name)), interfaces };
}

interface Mapped {
  readonly network: Fields;
  /** How interfaces are plugged into it, where that has to change. */
  readonly binding: Fields | undefined;
}

function unchanged(network: Fields): Mapped {
  return { network, binding: undefined };
}

/** Every network has to be mentioned: none is joined because it was forgotten. */
function mapNetworks(
  networks: readonly Fields[],
  map: NonNullable<VMRestoreSpec["virtualMachine"]["networkMap"]>,
): Mapped[] | { readonly problem: string } {
  const mapped: Mapped[] = [];
  const forgotten: string[] = [];
  for (const network of networks) {
    const from = sourceOf(network);
    const to = (map.find((entry) => entry.from === from) ?? map.find((entry) => entry.from === EVERY))?.to;
    if (to === undefined) forgotten.push(from);
    else if (to !== NONE) mapped.push(movedTo(network, to));
  }
  if (forgotten.length === 0) return mapped;
  return {
    problem: `spec.virtualMachine.networkMap says nothing of ${[...new Set(forgotten)].slice(0, 8).join(", ")}. Add an entry for each, or one from "*" for all others; to "none" leaves a network out.`,
  };
}

function sourceOf({ pod, multus, name }: Fields): string {
  if (pod !== undefined) return POD;
  return isRecord(multus) && typeof multus.networkName === "string" ? multus.networkName : String(name);
}

function movedTo(network: Fields, to: string): Mapped {
  const { name, pod, multus } = network;
  if (to === POD) {
    return pod === undefined ? { network: { name, pod: {} }, binding: { masquerade: {} } } : unchanged(network);
  }
  const kept = isRecord(multus) ? multus : {};
  return {
    network: { name, multus: { ...kept, networkName: to } },
    binding: multus === undefined ? { bridge: {} } : undefined,
  };
}

function rebound(nic: Fields, binding: Fields | undefined): Fields {
  if (binding === undefined) return nic;
  return { ...Object.fromEntries(Object.entries(nic).filter(([field]) => !BINDINGS.includes(field))), ...binding };
}
