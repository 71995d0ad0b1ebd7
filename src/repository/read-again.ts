import { RepositoryError } from "./errors.ts";

/** Whether a file's content is not what was written; bytes that were altered on their way look the same. */
export function isDamaged(error: unknown): boolean {
  return (
    error instanceof RepositoryError &&
    (error.code === "REPOSITORY_OBJECT_DAMAGED" || error.code === "REPOSITORY_BLOB_DAMAGED")
  );
}

/** Reads and decodes something, and once more where it was damaged: it may have been altered on its way. */
export async function readAgainIfDamaged<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!isDamaged(error)) throw error;
  }
  return read();
}
