import type { JsonObject } from "../json.ts";
import type { KubeObject } from "../object.ts";

/** Fields that are called otherwise in events.k8s.io/v1 than in core/v1, where events are stored. */
const RENAMED: readonly (readonly [core: string, events: string])[] = [
  ["message", "note"],
  ["involvedObject", "regarding"],
  ["source", "deprecatedSource"],
  ["firstTimestamp", "deprecatedFirstTimestamp"],
  ["lastTimestamp", "deprecatedLastTimestamp"],
  ["count", "deprecatedCount"],
  ["reportingComponent", "reportingController"],
];

export function eventFromCore(event: KubeObject): KubeObject {
  return rename(event, "events.k8s.io/v1", new Map(RENAMED));
}

export function eventToCore(event: KubeObject): KubeObject {
  return rename(event, "v1", new Map(RENAMED.map(([core, events]) => [events, core])));
}

function rename(event: KubeObject, apiVersion: string, names: ReadonlyMap<string, string>): KubeObject {
  const { kind, metadata, apiVersion: _, ...rest } = event;
  const fields: JsonObject = {};
  for (const [key, value] of Object.entries(rest)) fields[names.get(key) ?? key] = value;
  return { apiVersion, kind, metadata, ...fields };
}
