import { isDeepStrictEqual } from "node:util";
import * as z from "zod";
import { objectName } from "../../../api/common.ts";
import { FIRMWARE_FIELDS, INSTANCETYPE_FIELDS, PREFERENCE_FIELDS } from "./domain-fields.ts";
import { at, fields, isRecord, LeftOut, takeFields, takeOver, text } from "./shape.ts";

/** Kinds of objects that a machine may refer to and a snapshot may carry. */
export type CarriedKind = "Secret" | "ConfigMap" | "ControllerRevision";

/** What is kept of such an object: no label, annotation or owner of its own. */
export interface Carried {
  readonly kind: CarriedKind;
  readonly name: string;
  /** Everything but `apiVersion`, `kind` and `metadata`. */
  readonly content: Readonly<Record<string, unknown>>;
}

/** What KubeVirt wrote down of the machine while it ran, and its manifest need not tell. */
export interface RunningMachine {
  readonly uuid?: string;
  readonly serial?: string;
  readonly machineType?: string;
  readonly architecture?: string;
  /** By the interface's name. */
  readonly macs: ReadonlyMap<string, string>;
  readonly annotations: Readonly<Record<string, unknown>>;
}

export interface CarriedObjects {
  readonly objects: readonly Carried[];
  readonly running: RunningMachine | undefined;
}

export const NOTHING_CARRIED: CarriedObjects = { objects: [], running: undefined };

/** None that an API server gives meaning to beyond its content: a token of a ServiceAccount or of the cluster's own is none of them. */
const SECRET_TYPES = [
  "Opaque",
  "kubernetes.io/basic-auth",
  "kubernetes.io/ssh-auth",
  "kubernetes.io/tls",
  "kubernetes.io/dockerconfigjson",
];
const INSTANCETYPE_GROUP = /^instancetype\.kubevirt\.io\/v1[a-z0-9]*$/;
const KEY = /^[-._a-zA-Z0-9]{1,253}$/;
const MAC = /^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/;
/** Of one object, as an API server limits it. */
const CONTENT_LIMIT = 1024 * 1024;

const identified = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: objectName }),
});

/**
 * The objects that lie beside the manifest in the snapshot, as far as they are of a known kind and shape. Written by whoever may write
 * backups: nothing here is to be trusted beyond its shape.
 *
 * @param machine the machine's name in its manifest
 */
export function readCarried(given: readonly unknown[], machine: string | undefined): CarriedObjects {
  const objects = new Map<string, Carried>();
  let running: RunningMachine | undefined;
  for (const each of given) {
    const object = identified.safeParse(each).data;
    if (object === undefined) continue;
    const { apiVersion, kind, metadata } = object;
    const { name } = metadata;
    if (kind === "VirtualMachineInstance" && name === machine) running = readRunning(object);
    const content = contentOf(apiVersion, kind, object);
    if (content !== undefined) objects.set(`${kind}/${name}`, { kind: kind as CarriedKind, name, content });
  }
  return { objects: [...objects.values()], running };
}

/** What counts of an object, in the backup and in the cluster alike; undefined where it is of no known kind or shape. */
function contentOf(apiVersion: string, kind: string, object: Readonly<Record<string, unknown>>) {
  if (apiVersion === "v1" && kind === "Secret") return secretContent(object);
  if (apiVersion === "v1" && kind === "ConfigMap") return configMapContent(object);
  if (apiVersion === "apps/v1" && kind === "ControllerRevision") return revisionContent(object);
  return undefined;
}

/** Whether an object of the cluster says the same as the one that the snapshot carries. */
export function saysTheSame(
  { kind, content }: Carried,
  object: { readonly apiVersion?: string; readonly kind?: string },
): boolean {
  const apiVersion = kind === "ControllerRevision" ? "apps/v1" : "v1";
  const present = contentOf(apiVersion, kind, object as Record<string, unknown>);
  if (present === undefined) return false;
  const { immutable: _, revision: __, ...own } = content;
  const { immutable: ___, revision: ____, ...other } = present as Record<string, unknown>;
  return isDeepStrictEqual(own, other);
}

function secretContent({ type = "Opaque", data, stringData, immutable }: Record<string, unknown>) {
  if (typeof type !== "string" || !SECRET_TYPES.includes(type)) return undefined;
  const encoded = valuesOf(data, (value) => (isBase64(value) ? value : undefined));
  const plain = valuesOf(stringData, (value) => Buffer.from(value).toString("base64"));
  if (encoded === undefined || plain === undefined) return undefined;
  return { type, data: { ...encoded, ...plain }, ...(immutable === true ? { immutable } : {}) };
}

function configMapContent({ data, binaryData, immutable }: Record<string, unknown>) {
  const texts = valuesOf(data, (value) => value);
  const binaries = valuesOf(binaryData, (value) => (isBase64(value) ? value : undefined));
  if (texts === undefined || binaries === undefined) return undefined;
  return {
    ...(Object.keys(texts).length === 0 ? {} : { data: texts }),
    ...(Object.keys(binaries).length === 0 ? {} : { binaryData: binaries }),
    ...(immutable === true ? { immutable } : {}),
  };
}

/**
 * An instancetype or a preference as it was when the machine was made. Nothing else may be in it: a revision can also be what a
 * StatefulSet's pods are made from.
 */
function revisionContent({ data, revision }: Record<string, unknown>) {
  if (!isRecord(data) || !INSTANCETYPE_GROUP.test(String(data.apiVersion))) return undefined;
  const isPreference = /^VirtualMachine(Cluster)?Preference$/.test(String(data.kind));
  if (!isPreference && !/^VirtualMachine(Cluster)?Instancetype$/.test(String(data.kind))) return undefined;
  const name = isRecord(data.metadata) ? objectName.safeParse(data.metadata.name).data : undefined;
  if (!isRecord(data.spec) || name === undefined) return undefined;
  const spec = takeFields(data.spec, isPreference ? PREFERENCE_FIELDS : INSTANCETYPE_FIELDS, "spec", new LeftOut());
  return {
    data: { apiVersion: data.apiVersion, kind: data.kind, metadata: { name }, spec },
    revision: typeof revision === "number" && Number.isSafeInteger(revision) && revision >= 0 ? revision : 0,
  };
}

function valuesOf(given: unknown, take: (value: string) => string | undefined): Record<string, string> | undefined {
  if (given === undefined || given === null) return {};
  if (!isRecord(given)) return undefined;
  const entries = Object.entries(given);
  let bytes = 0;
  const taken: [string, string][] = [];
  for (const [key, value] of entries) {
    const kept = typeof value === "string" ? take(value) : undefined;
    bytes += key.length + (kept?.length ?? 0);
    if (kept === undefined || !KEY.test(key) || key === "__proto__" || bytes > 2 * CONTENT_LIMIT) return undefined;
    taken.push([key, kept]);
  }
  return Object.fromEntries(taken);
}

function isBase64(value: string): boolean {
  return value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value);
}

function readRunning(object: Readonly<Record<string, unknown>>): RunningMachine {
  const ignored = new LeftOut();
  const domain = at(object, "spec", "domain");
  const interfaces = at(object, "status").interfaces;
  const macs = (Array.isArray(interfaces) ? interfaces : [])
    .slice(0, 64)
    .flatMap((nic): [string, string][] =>
      isRecord(nic) && typeof nic.name === "string" && typeof nic.mac === "string" && MAC.test(nic.mac)
        ? [[nic.name, nic.mac]]
        : [],
    );
  const known = fields({ firmware: fields(FIRMWARE_FIELDS), machine: fields({ type: text(63) }) });
  const taken = takeOver(domain, known, "domain", ignored) as {
    firmware?: Record<string, string>;
    machine?: { type?: string };
  };
  const architecture = at(object, "spec").architecture;
  return {
    ...(taken.firmware?.uuid === undefined ? {} : { uuid: taken.firmware.uuid }),
    ...(taken.firmware?.serial === undefined ? {} : { serial: taken.firmware.serial }),
    ...(taken.machine?.type === undefined ? {} : { machineType: taken.machine.type }),
    ...(typeof architecture === "string" && /^[a-z0-9]{1,16}$/.test(architecture) ? { architecture } : {}),
    macs: new Map(macs),
    annotations: at(object, "metadata", "annotations"),
  };
}
