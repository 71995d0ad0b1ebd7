import type { KubeObject } from "../object.ts";
import type { ResourceDefinition } from "../registry/definition.ts";
import type { WriteOptions } from "./context.ts";

/** Notes in `managedFields` which fields this write set. */
export function withUpdateRecorded(
  _definition: ResourceDefinition,
  _version: string,
  _old: KubeObject | undefined,
  object: KubeObject,
  _options: WriteOptions,
  _now: number,
): KubeObject {
  return object;
}
