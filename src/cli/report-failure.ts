import { errorMessage, VmRestoreError } from "../base/errors.ts";

/** Says on standard error what went wrong and what to do, and gives back the exit code. */
export function reportFailure(error: unknown): number {
  const code = error instanceof VmRestoreError ? ` (${error.code})` : "";
  const hint = error instanceof VmRestoreError && error.hint !== undefined ? `\n  ${error.hint}` : "";
  process.stderr.write(`vmrestore: ${errorMessage(error)}${code}${hint}\n`);
  return 1;
}
