import type { Clock } from "../../../base/clock.ts";
import type { Registry } from "../registry/registry.ts";
import type { Store } from "../store/store.ts";

/** What every operation works on. */
export interface Cluster {
  readonly store: Store;
  readonly registry: Registry;
  readonly clock: Clock;
  /** A fresh RFC 4122 UID. */
  readonly newUid: () => string;
}

/** What a write says about itself besides its body. */
export interface WriteOptions {
  /** Owner of the fields in `managedFields`. */
  readonly manager: string;
  readonly dryRun: boolean;
  readonly fieldValidation: "Ignore" | "Warn" | "Strict";
  /** "" for the object itself, else `status`, `scale`, … */
  readonly subresource: string;
  /** Told to the client in `Warning` headers. */
  readonly warn: (message: string) => void;
}

/** `DeleteOptions` of meta/v1. */
export interface DeleteOptions {
  readonly preconditions: { readonly uid?: string; readonly resourceVersion?: string };
  readonly propagationPolicy: "Background" | "Foreground" | "Orphan" | undefined;
  readonly gracePeriodSeconds: number | undefined;
  readonly dryRun: boolean;
}
