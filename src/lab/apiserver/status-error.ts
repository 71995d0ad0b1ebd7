import { VmRestoreError } from "../../base/errors.ts";
import type { JsonObject } from "./json.ts";

/** One reason why an object is refused: `StatusCause` of meta/v1. */
export interface Cause {
  /** `FieldValueRequired`, `FieldValueInvalid`, `FieldValueNotSupported`, `FieldManagerConflict`, … */
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

/** What a refusal is about: goes into `details` and into the message. */
export interface Subject {
  readonly group: string;
  /** The plural resource name; for `Invalid` the kind. */
  readonly resource: string;
  readonly name: string;
}

/** An error that reaches the client as a `Status` object of meta/v1. */
export class StatusError extends VmRestoreError {
  readonly httpStatus: number;
  readonly reason: string;
  readonly details: JsonObject | undefined;

  constructor(httpStatus: number, reason: string, message: string, details?: JsonObject) {
    super("LAB_API_STATUS", message);
    this.httpStatus = httpStatus;
    this.reason = reason;
    this.details = details;
  }

  get status(): JsonObject {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: this.message,
      reason: this.reason,
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.httpStatus,
    };
  }
}

function detailsOf(subject: Subject): JsonObject {
  return {
    ...(subject.name === "" ? {} : { name: subject.name }),
    ...(subject.group === "" ? {} : { group: subject.group }),
    kind: subject.resource,
  };
}

const qualified = (subject: Subject) =>
  subject.group === "" ? subject.resource : `${subject.resource}.${subject.group}`;

export function notFound(subject: Subject): StatusError {
  return new StatusError(404, "NotFound", `${qualified(subject)} "${subject.name}" not found`, detailsOf(subject));
}

/** No such path at all, as against no such object. */
export function noSuchResource(): StatusError {
  return new StatusError(404, "NotFound", "the server could not find the requested resource", {});
}

export function alreadyExists(subject: Subject): StatusError {
  return new StatusError(
    409,
    "AlreadyExists",
    `${qualified(subject)} "${subject.name}" already exists`,
    detailsOf(subject),
  );
}

export function conflict(subject: Subject, why: string, causes: readonly Cause[] = []): StatusError {
  return new StatusError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(subject)} "${subject.name}": ${why}`,
    { ...detailsOf(subject), ...(causes.length === 0 ? {} : { causes: causes.map((cause) => ({ ...cause })) }) },
  );
}

/** The optimistic concurrency check failed: read again, change, write again. */
export function objectModified(subject: Subject): StatusError {
  return conflict(
    subject,
    "the object has been modified; please apply your changes to the latest version and try again",
  );
}

export function invalid(group: string, kind: string, name: string, causes: readonly Cause[]): StatusError {
  const texts = causes.map((cause) => `${cause.field === "" ? "" : `${cause.field}: `}${cause.message}`);
  const why = texts.length === 1 ? (texts[0] ?? "") : `[${texts.join(", ")}]`;
  const subject = { group, resource: kind, name };
  return new StatusError(422, "Invalid", `${qualified(subject)} "${name}" is invalid: ${why}`, {
    ...detailsOf(subject),
    causes: causes.map((cause) => ({ ...cause })),
  });
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, "BadRequest", message);
}

export function forbidden(subject: Subject, why: string, causes: readonly Cause[] = []): StatusError {
  return new StatusError(403, "Forbidden", `${qualified(subject)} "${subject.name}" is forbidden: ${why}`, {
    ...detailsOf(subject),
    ...(causes.length === 0 ? {} : { causes: causes.map((cause) => ({ ...cause })) }),
  });
}

export function unauthorized(): StatusError {
  return new StatusError(401, "Unauthorized", "Unauthorized");
}

export function methodNotAllowed(): StatusError {
  return new StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
}

export function unsupportedMediaType(accepted: readonly string[]): StatusError {
  return new StatusError(
    415,
    "UnsupportedMediaType",
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
  );
}

/** A resource version that is no longer kept: list again. */
export function expired(message: string): StatusError {
  return new StatusError(410, "Expired", message);
}

/** A resource version that does not exist yet. */
export function tooLargeResourceVersion(asked: number, current: number): StatusError {
  return new StatusError(504, "Timeout", `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });
}
