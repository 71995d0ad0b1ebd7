import { VmRestoreError } from "../base/errors.ts";

/** Why a repository could not give what it was asked for. */
export type RepositoryErrorCode =
  | "REPOSITORY_UNREACHABLE"
  | "REPOSITORY_NOT_FOUND"
  | "REPOSITORY_WRONG_PASSWORD"
  | "REPOSITORY_UNSUPPORTED"
  | "REPOSITORY_OBJECT_MISSING"
  | "REPOSITORY_OBJECT_DAMAGED"
  | "REPOSITORY_PACK_MISSING"
  | "REPOSITORY_BLOB_DAMAGED"
  | "REPOSITORY_BLOB_UNKNOWN"
  | "REPOSITORY_READ_ONLY"
  | "REPOSITORY_FORBIDDEN"
  | "REPOSITORY_UNTRUSTED"
  | "REPOSITORY_REDIRECTED"
  | "REPOSITORY_LOCKED"
  | "SNAPSHOT_NOT_FOUND"
  | "SNAPSHOT_AMBIGUOUS"
  | "PATH_NOT_FOUND"
  | "PATH_NOT_A_FILE";

/** Always names the object (file, blob, snapshot, path) that is meant. */
export class RepositoryError extends VmRestoreError {
  declare readonly code: RepositoryErrorCode;

  constructor(code: RepositoryErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, message, options);
  }
}

/** What was asked for is wrong or gone, as far as the index says that was looked into. */
const FINAL: ReadonlySet<RepositoryErrorCode> = new Set([
  "REPOSITORY_PACK_MISSING",
  "REPOSITORY_BLOB_UNKNOWN",
  "REPOSITORY_BLOB_DAMAGED",
  "REPOSITORY_OBJECT_MISSING",
  "REPOSITORY_OBJECT_DAMAGED",
]);

/** Whether the same read may succeed later though nothing in the repository changes: when it is reached again, or may be read. */
export function isTransient(error: unknown): boolean {
  return !(error instanceof RepositoryError) || !FINAL.has(error.code);
}
