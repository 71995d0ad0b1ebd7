import * as z from "zod";

/** RFC 1123 label, as volume and VM names are: at most 63 characters. */
export const dnsLabel = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);

/** RFC 1123 subdomain, as most objects' names are: at most 253 characters. */
export const objectName = z
  .string()
  .min(1)
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);

/** RFC 3339 in UTC or with an offset. */
export const timestamp = z.iso.datetime({ offset: true }).max(40);

/** Bytes, whole. */
export const byteCount = z.int().nonnegative();

/** The condition of the Kubernetes API conventions (`metav1.Condition`). */
export const condition = z.object({
  type: z.string().max(316),
  status: z.enum(["True", "False", "Unknown"]),
  observedGeneration: z.int().nonnegative().optional(),
  lastTransitionTime: timestamp,
  /** CamelCase, stable: programs match on it. */
  reason: z.string().min(1).max(1024),
  /** A sentence for people that says what to do where something is to be done. */
  message: z.string().max(32768),
});

export type Condition = z.infer<typeof condition>;

export const conditions = z
  .array(condition)
  .max(32)
  .meta({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] });

/** What every object's metadata holds, as far as this product looks at it. */
export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: { uid: string; kind: string; name: string }[];
  /** Server-side apply's bookkeeping: often half of an object. */
  managedFields?: object[];
}
