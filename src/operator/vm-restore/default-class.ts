import type { StorageClass } from "../kinds.ts";

/** The StorageClass of claims that name none. */
export function defaultClass(classes: readonly StorageClass[]): StorageClass | undefined {
  return classes.find(
    ({ metadata }) => metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true",
  );
}
