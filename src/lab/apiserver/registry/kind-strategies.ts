import { arrayAt, isObject, objectAt, setOwn, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { Store } from "../store/store.ts";

const ADDRESSES = 65_000;

/** What only the server fills in when an object of these kinds is made, beyond the defaults of the schema. */
export const PREPARE_CREATE: Readonly<
  Record<string, (object: KubeObject, store: Store, serviceRange: string) => void>
> = {
  Service: giveAddress,
  Secret: mergeStringData,
};

/** What holds for these kinds at every write. */
export const PREPARE_UPDATE: Readonly<Record<string, (object: KubeObject, old: KubeObject) => void>> = {
  Service: keepAddress,
  Secret: mergeStringData,
};

/** `stringData` is for writing only: it becomes `data`. */
function mergeStringData(object: KubeObject): void {
  const text = object.stringData;
  if (!isObject(text)) return;
  const data = isObject(object.data) ? object.data : {};
  for (const [key, value] of Object.entries(text)) {
    if (typeof value === "string") setOwn(data, key, Buffer.from(value).toString("base64"));
  }
  object.data = data;
  delete object.stringData;
}

/** From a /16 of loopback addresses, so that the lab's proxy can listen on it. */
function giveAddress(object: KubeObject, store: Store, serviceRange: string): void {
  const prefix = serviceRange.split(".").slice(0, 2).join(".");
  const spec = objectAt(object, "spec");
  object.spec = spec;
  spec.type ??= "ClusterIP";
  if (spec.type === "ExternalName" || stringAt(spec, "clusterIP") !== "") return;
  const taken = new Set(store.list("/services").map((service) => stringAt(service, "spec", "clusterIP")));
  for (let number = 1; number <= ADDRESSES; number++) {
    const address = `${prefix}.${number >> 8}.${number & 0xff}`;
    if (taken.has(address)) continue;
    spec.clusterIP = address;
    spec.clusterIPs = [address];
    spec.ipFamilies = ["IPv4"];
    spec.ipFamilyPolicy = "SingleStack";
    break;
  }
  for (const port of arrayAt(spec, "ports")) {
    if (!isObject(port)) continue;
    port.protocol ??= "TCP";
    if (port.port !== undefined) port.targetPort ??= port.port;
  }
}

/** An address stays with its Service: an update that leaves it out does not take it away. */
function keepAddress(object: KubeObject, old: KubeObject): void {
  const spec = objectAt(object, "spec");
  for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]) {
    const before = objectAt(old, "spec")[field];
    if (spec[field] === undefined && before !== undefined) setOwn(spec, field, before);
  }
  object.spec = spec;
}
