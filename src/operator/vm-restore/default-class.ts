import type { StorageClass } from "../kinds.ts";
import type { Observed } from "./observed.ts";
import { overlayClassName } from "./plan.ts";

/** The StorageClass of claims that name none. */
export function defaultClass(classes: readonly StorageClass[]): StorageClass | undefined {
  return classes.find(
    ({ metadata }) => metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true",
  );
}

/** The StorageClass of the overlay's claim, as far as there is one. */
export function overlayClass({
  spec,
  storageClasses,
}: Pick<Observed, "spec" | "storageClasses">): StorageClass | undefined {
  const name = overlayClassName(spec);
  if (name === undefined) return defaultClass(storageClasses);
  return storageClasses.find(({ metadata }) => metadata.name === name);
}
