import type { Column } from "../registry/definition.ts";
import { ageColumn, nameColumn } from "./columns.ts";

/** The columns of `kubectl get` for a built-in kind. */
export function columnsFor(_group: string, _kind: string): readonly Column[] {
  return [nameColumn, ageColumn];
}
