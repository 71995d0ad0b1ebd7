import { arrayAt, copyJson, isObject, objectAt, stringAt } from "../json.ts";
import type { KubeObject } from "../object.ts";
import { type Cause, StatusError } from "../status-error.ts";
import type { Store } from "../store/store.ts";
import { invalidValue, required } from "../validation/metadata.ts";
import { immutable, type KindStrategy, setDefaults } from "./kind.ts";

const NODE_PORTS = { first: 30_000, last: 32_767 } as const;

/** Services get their addresses from `range`, in CIDR notation: the first address goes to the API server itself. */
export function serviceStrategy(range: string): KindStrategy {
  const addresses = parseRange(range);
  return {
    applyDefaults: defaultService,
    prepareCreate: (service, store) => {
      service.status = { loadBalancer: {} };
      allocate(service, store, addresses);
    },
    prepareUpdate: (service, old) => {
      // What was allocated stays, also where the client left it out.
      const [spec, before] = [objectAt(service, "spec"), objectAt(old, "spec")];
      if (spec.type === "ExternalName") return;
      for (const key of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]) {
        if ((spec[key] ?? "") === "" && before[key] !== undefined) spec[key] = copyJson(before[key]);
      }
    },
    validateCreate: validateService,
    validateUpdate: (service, old) => {
      const [ip, before] = [stringAt(service, "spec", "clusterIP"), stringAt(old, "spec", "clusterIP")];
      return [...validateService(service), ...(before === "" ? [] : immutable("spec.clusterIP", ip, before))];
    },
  };
}

function defaultService(service: KubeObject): void {
  service.spec = objectAt(service, "spec");
  setDefaults(service.spec, { type: "ClusterIP", sessionAffinity: "None" });
  if (service.spec.type !== "ExternalName") setDefaults(service.spec, { internalTrafficPolicy: "Cluster" });
  for (const port of arrayAt(service.spec, "ports").filter(isObject)) {
    setDefaults(port, { protocol: "TCP" });
    if (port.port !== undefined) setDefaults(port, { targetPort: port.port });
  }
}

function allocate(service: KubeObject, store: Store, addresses: Range): void {
  const spec = objectAt(service, "spec");
  if (spec.type === "ExternalName") return;
  const others = store.list("/services");
  if (stringAt(spec, "clusterIP") === "") {
    const taken = new Set(others.map((other) => stringAt(other, "spec", "clusterIP")));
    spec.clusterIP = freeAddress(addresses, taken);
  }
  const ip = stringAt(spec, "clusterIP");
  if (ip !== "None" && others.some((other) => stringAt(other, "spec", "clusterIP") === ip)) {
    throw new StatusError(
      422,
      "Invalid",
      `Service "${service.metadata.name}" is invalid: spec.clusterIPs: Invalid value: ["${ip}"]: failed to allocate IP ${ip}: provided IP is already allocated`,
    );
  }
  spec.clusterIPs = [ip];
  setDefaults(spec, { ipFamilies: ["IPv4"], ipFamilyPolicy: "SingleStack" });
  if (spec.type === "NodePort" || spec.type === "LoadBalancer") allocateNodePorts(service, others);
}

function allocateNodePorts(service: KubeObject, others: readonly KubeObject[]): void {
  const taken = new Set(
    others.flatMap((other) => arrayAt(other, "spec", "ports")).map((port) => objectAt(port).nodePort),
  );
  let next = NODE_PORTS.first;
  for (const port of arrayAt(service, "spec", "ports").filter(isObject)) {
    if (typeof port.nodePort === "number" && port.nodePort > 0) continue;
    while (taken.has(next) && next <= NODE_PORTS.last) next++;
    port.nodePort = next++;
  }
}

interface Range {
  readonly first: number;
  readonly size: number;
}

/** @throws TypeError for what is no IPv4 range */
function parseRange(text: string): Range {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  const [, ...numbers] = match?.map(Number) ?? [];
  const [a = 256, b = 256, c = 256, d = 256, bits = 33] = numbers;
  if (Math.max(a, b, c, d) > 255 || bits > 30) throw new TypeError(`not an IPv4 range for Services: ${text}`);
  const size = 2 ** (32 - bits);
  const base = ((a * 256 + b) * 256 + c) * 256 + d;
  return { first: base - (base % size), size };
}

/** The lowest free one; neither the network's own address nor the broadcast address. */
function freeAddress(range: Range, taken: ReadonlySet<string>): string {
  for (let offset = 1; offset < range.size - 1; offset++) {
    const number = range.first + offset;
    const address = [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
    if (!taken.has(address)) return address;
  }
  throw new StatusError(500, "InternalError", "Internal error occurred: failed to allocate a serviceIP: range is full");
}

function validateService(service: KubeObject): Cause[] {
  const causes: Cause[] = [];
  const ports = arrayAt(service, "spec", "ports");
  const needsPorts =
    stringAt(service, "spec", "type") !== "ExternalName" && stringAt(service, "spec", "clusterIP") !== "None";
  if (needsPorts && ports.length === 0) causes.push(required("spec.ports"));
  const names = new Set<string>();
  for (const [index, port] of ports.filter(isObject).entries()) {
    const number = port.port;
    if (typeof number !== "number" || number < 1 || number > 65_535) {
      causes.push(invalidValue(`spec.ports[${index}].port`, number ?? 0, "must be between 1 and 65535, inclusive"));
    }
    const name = stringAt(port, "name");
    const field = `spec.ports[${index}].name`;
    if (name === "" && ports.length > 1) causes.push(required(field));
    else if (names.has(name))
      causes.push({ reason: "FieldValueDuplicate", message: `Duplicate value: "${name}"`, field });
    names.add(name);
  }
  return causes;
}
