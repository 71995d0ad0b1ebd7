import { type BackupRepository, backupRepositorySpec } from "../../api/backup-repository.ts";

/** A BackupRepository as a VMRestore names it. */
export interface RepositoryName {
  readonly name: string;
  readonly namespace: string;
}

/** With the namespace of the VMRestore where the reference names none. */
export function repositoryName(
  reference: { readonly name: string; readonly namespace?: string | undefined },
  restoreNamespace: string | undefined,
): RepositoryName {
  return { name: reference.name, namespace: reference.namespace ?? restoreNamespace ?? "" };
}

/**
 * Whether a VMRestore in `namespace` may read the repository. The repository's own namespace says who else may: it is its data that is
 * handed out.
 */
export function isGranted(repository: BackupRepository, namespace: string | undefined): boolean {
  if (namespace === undefined) return false;
  if (repository.metadata.namespace === namespace) return true;
  const spec = backupRepositorySpec.safeParse(repository.spec).data;
  return spec?.allowedNamespaces?.includes(namespace) ?? false;
}
