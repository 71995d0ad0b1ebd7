import { type Message, readMessage } from "./reader.ts";

/** What protobuf bodies of the Kubernetes API begin with. */
const MAGIC = Buffer.from("k8s\0");

// Field numbers of generated.proto in k8s.io/api and k8s.io/apimachinery.
const META: Message = {
  1: "name",
  2: "generateName",
  3: "namespace",
  5: "uid",
  6: "resourceVersion",
  11: { name: "labels", as: "map" },
  12: { name: "annotations", as: "map" },
  14: { name: "finalizers", as: "strings" },
};
const metadata = { name: "metadata", as: META } as const;
const ACCESS: Message = {
  1: metadata,
  2: {
    name: "spec",
    as: {
      1: {
        name: "resourceAttributes",
        as: { 1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name" },
      },
      2: { name: "nonResourceAttributes", as: { 1: "path", 2: "verb" } },
    },
  },
};

/** The kinds that newer kubectls send in this form, with `kubectl create` and `kubectl auth`. */
const KINDS: Readonly<Record<string, Message>> = {
  "v1 Namespace": { 1: metadata },
  "v1 ServiceAccount": { 1: metadata, 4: { name: "automountServiceAccountToken", as: "bool" } },
  "v1 ConfigMap": {
    1: metadata,
    2: { name: "data", as: "map" },
    3: { name: "binaryData", as: "bytesMap" },
    4: { name: "immutable", as: "bool" },
  },
  "v1 Secret": {
    1: metadata,
    2: { name: "data", as: "bytesMap" },
    3: "type",
    4: { name: "stringData", as: "map" },
    5: { name: "immutable", as: "bool" },
  },
  "authorization.k8s.io/v1 SelfSubjectAccessReview": ACCESS,
  "authorization.k8s.io/v1 SelfSubjectRulesReview": { 1: metadata, 2: { name: "spec", as: { 1: "namespace" } } },
  "authentication.k8s.io/v1 SelfSubjectReview": { 1: metadata },
};

/**
 * The object of a body in protobuf (a `runtime.Unknown`, which holds the object's own message).
 *
 * @returns undefined for a kind that is understood as JSON only
 * @throws RangeError where it is no such message
 */
export function decodeProtobufObject(body: Buffer): Record<string, unknown> | undefined {
  if (!body.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError("it does not begin as protobuf does");
  const envelope = readMessage(body.subarray(MAGIC.length), {
    1: { name: "type", as: { 1: "apiVersion", 2: "kind" } },
    2: { name: "raw", as: "bytes" },
  });
  const { apiVersion = "", kind = "" } = (envelope.type ?? {}) as { apiVersion?: string; kind?: string };
  const type = `${apiVersion} ${kind}`;
  const message = Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (message === undefined) return undefined;
  return { apiVersion, kind, ...readMessage((envelope.raw as Buffer | undefined) ?? Buffer.alloc(0), message) };
}
