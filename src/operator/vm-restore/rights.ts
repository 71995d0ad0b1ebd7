import { CLAIMS, VIRTUAL_MACHINES } from "../kinds.ts";
import type { AccessRule } from "../runtime/access-rules.ts";
import type { PlannedObject } from "./planned-objects.ts";

/**
 * What the operator may not do in a namespace and has to, as `verb resource`, each once; none where everything may be done.
 *
 * @param rules what it may do there
 * @param replaces whether a machine is there whose place the restored one takes
 */
export function missingRights(
  rules: readonly AccessRule[],
  objects: readonly PlannedObject[],
  replaces = false,
): string[] {
  const types = new Map(objects.map(({ type }) => [`${type.apiVersion}/${type.plural}`, type]));
  return [...types.values()].flatMap((type) => {
    const group = type.apiVersion.includes("/") ? (type.apiVersion.split("/")[0] ?? "") : "";
    // A machine is changed at cutover, and a claim with the TPM state of one that is replaced; everything else is made, and taken away.
    const isChanged = type === VIRTUAL_MACHINES || (replaces && type === CLAIMS);
    const verbs = ["create", "delete", ...(isChanged ? ["update"] : [])];
    return verbs.flatMap((verb) =>
      rules.some((rule) => allows(rule, verb, group, type.plural)) ? [] : [`${verb} ${type.plural}`],
    );
  });
}

function allows(rule: AccessRule, verb: string, group: string, resource: string): boolean {
  const has = (values: readonly string[] | undefined, value: string) =>
    values?.some((each) => each === "*" || each === value) ?? false;
  return (
    (rule.resourceNames ?? []).length === 0 &&
    has(rule.verbs, verb) &&
    has(rule.apiGroups, group) &&
    has(rule.resources, resource)
  );
}
