import type { IncomingMessage } from "node:http";
import { at, type JsonObject, numberAt, stringAt } from "../json.ts";
import type { DeleteOptions, WriteOptions } from "../operations/context.ts";
import { badRequest, invalid } from "../status-error.ts";

/** @throws StatusError for values that the API does not know */
export function writeOptionsOf(
  query: URLSearchParams,
  request: IncomingMessage,
  subresource: string,
  warn: (message: string) => void,
): WriteOptions {
  return {
    manager: query.get("fieldManager") || managerFrom(request.headers["user-agent"] ?? ""),
    dryRun: isDryRun(query.getAll("dryRun")),
    fieldValidation: fieldValidationOf(query.get("fieldValidation") ?? ""),
    subresource,
    warn,
  };
}

/** The first part of the user agent, as the real server takes it. */
function managerFrom(userAgent: string): string {
  return userAgent.split("/")[0]?.slice(0, 128) || "unknown";
}

function fieldValidationOf(text: string): "Ignore" | "Warn" | "Strict" {
  switch (text) {
    case "":
      return "Warn";
    case "Ignore":
    case "Warn":
    case "Strict":
      return text;
  }
  throw invalid("meta.k8s.io", "CreateOptions", "", [
    { reason: "FieldValueNotSupported", message: `Unsupported value: "${text}"`, field: "fieldValidation" },
  ]);
}

function isDryRun(values: readonly unknown[]): boolean {
  const asked = values.filter((value) => value !== "");
  if (asked.some((value) => value !== "All")) {
    throw invalid("meta.k8s.io", "CreateOptions", "", [
      { reason: "FieldValueNotSupported", message: 'Unsupported value: supported values: "All"', field: "dryRun" },
    ]);
  }
  return asked.length > 0;
}

/** From the body, or from the query where there is none; clients use either. */
export function deleteOptionsOf(query: URLSearchParams, body: JsonObject): DeleteOptions {
  const uid = stringAt(body, "preconditions", "uid");
  const resourceVersion = stringAt(body, "preconditions", "resourceVersion");
  const grace = numberAt(body, "gracePeriodSeconds") ?? numberOf(query.get("gracePeriodSeconds"));
  const dryRun = at(body, "dryRun");
  return {
    preconditions: {
      ...(uid === "" ? {} : { uid }),
      ...(resourceVersion === "" ? {} : { resourceVersion }),
    },
    propagationPolicy: propagationOf(
      stringAt(body, "propagationPolicy") || (query.get("propagationPolicy") ?? ""),
      at(body, "orphanDependents"),
    ),
    gracePeriodSeconds: grace,
    dryRun: isDryRun([...query.getAll("dryRun"), ...(Array.isArray(dryRun) ? dryRun : [])]),
  };
}

function numberOf(text: string | null): number | undefined {
  if (text === null || text === "") return undefined;
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 0) throw badRequest(`invalid gracePeriodSeconds: ${text}`);
  return number;
}

function propagationOf(text: string, orphanDependents: unknown): DeleteOptions["propagationPolicy"] {
  switch (text) {
    case "":
      return orphanDependents === true ? "Orphan" : orphanDependents === false ? "Background" : undefined;
    case "Background":
    case "Foreground":
    case "Orphan":
      return text;
  }
  throw invalid("meta.k8s.io", "DeleteOptions", "", [
    { reason: "FieldValueNotSupported", message: `Unsupported value: "${text}"`, field: "propagationPolicy" },
  ]);
}
