/** The API group and version of this product's custom resources. */
export const GROUP = "vmrestore.io";
export const VERSION = "v1alpha1";
export const API_VERSION = `${GROUP}/${VERSION}`;

/** Labels by which everything that a restore made is found again. Nothing of it has an owner reference to the VMRestore. */
export const LABELS = {
  /** uid of the VMRestore. An object without it is never changed or deleted. */
  restoreUid: `${GROUP}/restore-uid`,
  restoreName: `${GROUP}/restore-name`,
  restoreNamespace: `${GROUP}/restore-namespace`,
  /** Volume name of the VM's disk that the object belongs to. */
  disk: `${GROUP}/disk`,
  /** uid of the BackupRepository that the object was made for. */
  repositoryUid: `${GROUP}/repository-uid`,
  /** On pods that look at a node. */
  nodeCheck: `${GROUP}/node-check`,
} as const;

/** On the plan of a restore that reads from more than one BackupRepository: the others' uids, each a label of its own. */
export function alsoReads(repositoryUid: string): string {
  return `${ALSO_READS}${repositoryUid}`;
}

const ALSO_READS = `${GROUP}/also-reads-`;

/** uids of the BackupRepositories that a plan with these labels reads, the first of them first. */
export function readsOf(labels: Readonly<Record<string, string>>): string[] {
  const others = Object.keys(labels).filter((label) => label.startsWith(ALSO_READS));
  const first = labels[LABELS.repositoryUid] ?? "";
  return [...(first === "" ? [] : [first]), ...others.map((label) => label.slice(ALSO_READS.length)).sort()];
}
