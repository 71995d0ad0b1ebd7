/**
 * The root of every error this product throws on purpose. `code` is stable and safe to match on; `hint` tells the
 * reader what to do next. Messages never carry secrets: they end up in logs, conditions and events.
 */
export class VmRestoreError extends Error {
  /** Stable, UPPER_SNAKE_CASE, unique across the product. */
  readonly code: string;
  /** One sentence that says what the reader can do next. */
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** The `code` of any error (ours, Node's `ENOENT` and the like), or undefined. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** The message of anything thrown, for a log line or a condition. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
