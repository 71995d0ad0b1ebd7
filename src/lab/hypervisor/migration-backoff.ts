import type { Migration } from "./kinds.ts";

/**
 * How long a migration has to wait after those of its instance that failed before it, in milliseconds: KubeVirt's pause, doubled with
 * each that failed in a row, counted from the last one's failure.
 */
export function backoffLeft(
  migration: Migration,
  all: readonly Migration[],
  options: { readonly firstMs: number; readonly now: number },
): number {
  const earlier = all
    .filter(({ metadata, spec }) => spec.vmiName === migration.spec.vmiName && metadata.uid !== migration.metadata.uid)
    .sort((a, b) => bornAt(b) - bornAt(a));
  let pause = 0;
  for (const { metadata, status } of earlier) {
    if (status?.phase === "Succeeded") break;
    if (metadata.deletionTimestamp !== undefined || status?.phase !== "Failed") continue;
    pause = pause === 0 ? options.firstMs : pause * 2;
  }
  const last = earlier[0]?.status?.phaseTransitionTimestamps?.find(({ phase }) => phase === "Failed");
  if (pause === 0 || last === undefined) return 0;
  return Math.max(0, Date.parse(last.phaseTransitionTimestamp) + pause - options.now);
}

function bornAt({ metadata }: Migration): number {
  return Date.parse(metadata.creationTimestamp ?? "");
}
