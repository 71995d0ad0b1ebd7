import { equalJson, type JsonObject } from "../json.ts";
import { formatTime, type KubeObject, type ObjectMeta } from "../object.ts";
import { badRequest } from "../status-error.ts";
import type { Cluster } from "./context.ts";

/** `generateName` plus five characters, as the real server appends them. */
const SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH = 5;
const MAX_GENERATED_BASE = 58;

/** Gives a new object what only the server may set, and takes away what a client may not. */
export function initialMetadata(cluster: Cluster, object: KubeObject, namespace: string, hasGeneration: boolean): void {
  const { metadata } = object;
  if (namespace !== "") {
    if ((metadata.namespace ?? "") !== "" && metadata.namespace !== namespace) {
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
    }
    metadata.namespace = namespace;
  } else delete metadata.namespace;
  if ((metadata.resourceVersion ?? "") !== "") {
    throw badRequest("resourceVersion should not be set on objects to be created");
  }
  const uid = cluster.newUid();
  if ((metadata.name ?? "") === "" && (metadata.generateName ?? "") !== "") {
    metadata.name = `${metadata.generateName?.slice(0, MAX_GENERATED_BASE)}${suffixOf(uid)}`;
  }
  for (const key of ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"]) {
    delete metadata[key];
  }
  metadata.uid = uid;
  metadata.creationTimestamp = formatTime(cluster.clock.now());
  if (hasGeneration) metadata.generation = 1;
}

function suffixOf(uid: string): string {
  let number = BigInt(`0x${uid.replaceAll("-", "")}`);
  let suffix = "";
  while (suffix.length < SUFFIX_LENGTH) {
    suffix += SUFFIX_ALPHABET[Number(number % BigInt(SUFFIX_ALPHABET.length))];
    number /= BigInt(SUFFIX_ALPHABET.length);
  }
  return suffix;
}

/** Carries over what an update can't change. */
export function carryMetadata(metadata: ObjectMeta, old: ObjectMeta): void {
  const kept = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
  ];
  for (const key of kept) {
    if (old[key] === undefined) delete metadata[key];
    else metadata[key] = old[key];
  }
  if (old.namespace !== undefined) metadata.namespace = old.namespace;
}

/** Everything but metadata, and but the status where that is a subresource: what the generation counts. */
export function desiredState(object: KubeObject, hasStatus: boolean): JsonObject {
  const { metadata: _, apiVersion: __, kind: ___, ...rest } = object;
  if (hasStatus) delete rest.status;
  return rest;
}

/** Equal but for the resource version and the times in managedFields. */
export function sameObject(a: KubeObject, b: KubeObject): boolean {
  return equalJson(comparable(a), comparable(b));
}

function comparable(object: KubeObject): JsonObject {
  const { resourceVersion: _, managedFields, ...metadata } = object.metadata;
  const managers = (managedFields ?? []).map(({ time: __, ...entry }) => entry);
  return { ...object, metadata: { ...metadata, managedFields: managers } };
}
