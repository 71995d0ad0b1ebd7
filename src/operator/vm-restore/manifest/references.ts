import type { VirtualMachine } from "../../kinds.ts";
import type { CarriedKind } from "./carried-objects.ts";
import { at, isRecord } from "./shape.ts";

/** An object of the machine's namespace without which it does not start, or not in full. */
export interface Reference {
  readonly kind: CarriedKind;
  readonly name: string;
  /** Whether the machine starts without it. */
  readonly optional: boolean;
}

const LIMIT = 64;

/** Every Secret, ConfigMap and ControllerRevision that a machine names, each once. */
export function referencesOf(machine: VirtualMachine): Reference[] {
  const found = new Map<string, Reference>();
  const add = (kind: CarriedKind, name: unknown, optional = false): void => {
    if (typeof name !== "string" || name === "") return;
    const key = `${kind}/${name}`;
    const before = found.get(key);
    // Beyond what one machine can sensibly name nothing is looked after: KubeVirt tells what is missing.
    if (before === undefined && found.size >= LIMIT) return;
    found.set(key, { kind, name, optional: optional && (before?.optional ?? true) });
  };
  const { template, instancetype, preference } = machine.spec ?? {};
  for (const matcher of [instancetype, preference]) add("ControllerRevision", at(matcher).revisionName);
  const spec = at(template, "spec");
  for (const volume of records(spec.volumes)) {
    for (const init of ["cloudInitNoCloud", "cloudInitConfigDrive"]) {
      add("Secret", at(volume, init, "secretRef").name);
      add("Secret", at(volume, init, "networkDataSecretRef").name);
    }
    const secret = at(volume, "secret");
    const configMap = at(volume, "configMap");
    add("Secret", secret.secretName, secret.optional === true);
    add("ConfigMap", configMap.name, configMap.optional === true);
    add("Secret", at(volume, "sysprep", "secret").name);
    add("ConfigMap", at(volume, "sysprep", "configMap").name);
    // Without it the image may come all the same: it is there on the node, or its registry is open.
    add("Secret", at(volume, "containerDisk").imagePullSecret, true);
  }
  for (const credential of records(spec.accessCredentials)) {
    for (const way of ["sshPublicKey", "userPassword"])
      add("Secret", at(credential, way, "source", "secret").secretName);
  }
  add("Secret", at(spec, "domain", "firmware", "kernelBoot", "container").imagePullSecret, true);
  return [...found.values()];
}

/** The NetworkAttachmentDefinitions that a machine's networks are; those without a namespace are in the machine's. */
export function attachmentsOf({ metadata, spec }: VirtualMachine): { namespace: string; name: string }[] {
  const found = new Map<string, { namespace: string; name: string }>();
  for (const network of records(at(spec?.template, "spec").networks)) {
    const { networkName } = at(network, "multus");
    if (typeof networkName !== "string") continue;
    const [name = "", namespace = metadata.namespace ?? ""] = networkName.split("/").reverse();
    found.set(`${namespace}/${name}`, { namespace, name });
  }
  return [...found.values()];
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}
