import { VmRestoreError } from "../../base/errors.ts";

/**
 * The Kubernetes API server refused, or could not be asked. `status` is the HTTP status, absent where there was no answer;
 * `reason` is the server's own word (`AlreadyExists`, `Conflict`, `Expired`, …).
 */
export class ApiError extends VmRestoreError {
  readonly status: number | undefined;
  readonly reason: string | undefined;

  /** When a server that was too busy to do anything wants to be asked again. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: { status?: number; reason?: string | undefined; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super("KUBERNETES_API", message, { ...("cause" in options ? { cause: options.cause } : {}) });
    this.status = options.status;
    this.reason = options.reason;
    this.retryAfterMs = options.retryAfterMs;
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

/** Somebody else wrote first, or the object is there already: read again and decide anew. */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409;
}

/** The resource version that a watch wanted to begin with is too old: list again. */
export function isExpired(error: unknown): boolean {
  return error instanceof ApiError && error.status === 410;
}
