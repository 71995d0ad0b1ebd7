import type { Column } from "../registry/definition.ts";
import { formatAge } from "./duration.ts";

export const nameColumn: Column = {
  name: "Name",
  type: "string",
  format: "name",
  priority: 0,
  value: (object) => object.metadata.name ?? "",
};

export const ageColumn: Column = {
  name: "Age",
  type: "string",
  priority: 0,
  value: (object, now) => ageOf(object.metadata.creationTimestamp, now),
};

/** How long ago an RFC 3339 time was, as kubectl writes it. */
export function ageOf(timestamp: string | undefined, now: number): string {
  const time = Date.parse(timestamp ?? "");
  return Number.isNaN(time) ? "<unknown>" : formatAge(now - time);
}
