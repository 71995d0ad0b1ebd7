// What says where a pod may run, and its reading by Kubernetes' scheduler. Whatever is optional in the API is optional here.

/** Which nodes: those of which one of the terms holds (`NodeSelector` of core/v1). */
export interface NodeTerms {
  nodeSelectorTerms?: { matchExpressions?: Requirement[]; matchFields?: Requirement[] }[];
}

interface Requirement {
  key: string;
  operator: string;
  values?: string[];
}

export interface Taint {
  key?: string;
  value?: string;
  effect?: string;
}

export interface Toleration extends Taint {
  operator?: string;
  tolerationSeconds?: number;
}

interface NamedNode {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
}

/** One of the terms, with all that it asks for; any node where there are no terms at all. A term that asks for nothing fits none. */
export function matchesNodeTerms(terms: NodeTerms | undefined, { metadata }: NamedNode): boolean {
  if (terms === undefined) return true;
  return (terms.nodeSelectorTerms ?? []).some(({ matchExpressions = [], matchFields = [] }) => {
    const asked = [
      ...matchExpressions.map((term) => ({ ...term, value: metadata.labels?.[term.key] })),
      ...matchFields.map((term) => ({ ...term, value: term.key === "metadata.name" ? metadata.name : undefined })),
    ];
    return asked.length > 0 && asked.every(holds);
  });
}

function holds({ value, operator, values = [] }: Requirement & { value: string | undefined }): boolean {
  switch (operator) {
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "Lt":
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

/** The first taint that keeps a pod with these tolerations off a node (Kubernetes, "Taints and Tolerations"). */
export function untoleratedTaint<T extends Taint>(
  taints: readonly T[],
  tolerations: readonly Toleration[] = [],
): T | undefined {
  return taints.find(
    (taint) =>
      (taint.effect === "NoSchedule" || taint.effect === "NoExecute") &&
      !tolerations.some((toleration) => tolerates(toleration, taint)),
  );
}

function tolerates({ key = "", operator = "Equal", value = "", effect = "" }: Toleration, taint: Taint): boolean {
  if (effect !== "" && effect !== taint.effect) return false;
  if (key === "") return operator === "Exists";
  return key === taint.key && (operator === "Exists" || value === (taint.value ?? ""));
}
