import type { JsonValue } from "../json.ts";
import type { KubeObject } from "../object.ts";
import type { Schema } from "../schema/schema.ts";
import type { Cause, Subject } from "../status-error.ts";
import type { Store } from "../store/store.ts";

/** A column of `kubectl get`. Priority 0 is always shown, higher ones with `-o wide`. */
export interface Column {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  readonly format?: string;
  readonly description?: string;
  readonly priority: number;
  readonly value: (object: KubeObject, now: number) => JsonValue;
}

/** Where the scale subresource finds its numbers: paths as in a CRD (`.spec.replicas`). */
export interface ScalePaths {
  readonly specReplicas: readonly string[];
  readonly statusReplicas: readonly string[];
  readonly labelSelector: readonly string[] | undefined;
}

export interface VersionDefinition {
  readonly version: string;
  readonly schema: Schema;
  readonly columns: readonly Column[];
  readonly status: boolean;
  readonly scale: ScalePaths | undefined;
  /** Shown to clients as a `Warning` header. */
  readonly deprecation?: string;
}

/** What a kind does beyond being stored. All of it works on the stored version. */
export interface Strategy {
  /** Has a `generation` that counts changes of the desired state. */
  readonly generation: boolean;
  /** The answer to DELETE is the object, not a Status. */
  readonly returnsDeleted: boolean;
  /** A PUT or PATCH without a resource version is refused (custom resources). */
  readonly requiresRevision: boolean;
  /** What DELETE does with dependents where the client says nothing. */
  readonly deletion: "Background" | "Orphan";
  /** Defaults beyond those of the schema. */
  applyDefaults(object: KubeObject): void;
  /** What only the server decides: the first status, addresses, finalizers. */
  prepareCreate(object: KubeObject, store: Store): void;
  /** `object` has been given the status of `old`, unless the status itself is written. */
  prepareUpdate(object: KubeObject, old: KubeObject, subresource: string): void;
  validateCreate(object: KubeObject): Cause[];
  validateUpdate(object: KubeObject, old: KubeObject): Cause[];
}

export interface ResourceDefinition {
  readonly group: string;
  /** Plural, as in paths. */
  readonly resource: string;
  readonly singular: string;
  readonly kind: string;
  readonly listKind: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly namespaced: boolean;
  /** Preferred first. */
  readonly versions: readonly VersionDefinition[];
  readonly storageVersion: string;
  readonly custom: boolean;
  readonly strategy: Strategy;
  /** Key in the store: two API groups may show the same objects (events). */
  readonly storageKey: string;
  /** From the stored form to that of `version`. */
  toVersion(object: KubeObject, version: string): KubeObject;
  /** From the form of a version to the stored form. */
  toStorage(object: KubeObject): KubeObject;
  /** Further subresources that exist in discovery: `log`, `eviction`, `finalize`, … */
  readonly subresources: readonly string[];
}

export function subjectOf(definition: ResourceDefinition, name: string): Subject {
  return { group: definition.group, resource: definition.resource, name };
}

/** `v1`, `apps/v1`. */
export function apiVersionOf(group: string, version: string): string {
  return group === "" ? version : `${group}/${version}`;
}
