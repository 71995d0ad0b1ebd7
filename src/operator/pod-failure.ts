import type { Pod } from "./kinds.ts";

/** So that what a process said at its end reaches its pod's status. */
export const TELL_FAILURE = { terminationMessagePolicy: "FallbackToLogsOnError" } as const;

const LIMIT = 700;

/**
 * What the command said when it failed (`vmrestore: <what went wrong> (<code>)`, then a hint), from the end of its log. Undefined where
 * it said nothing, or did not fail.
 */
export function failureOf(pods: readonly Pod[]): string | undefined {
  for (const pod of pods.toReversed()) {
    for (const { state, lastState } of pod.status?.containerStatuses ?? []) {
      const ended = state?.terminated ?? lastState?.terminated;
      if (ended === undefined || ended.exitCode === 0) continue;
      const said = /(?:^|\n)vmrestore: ((?:(?!\nvmrestore: )[\s\S])+)$/.exec(ended.message?.trimEnd() ?? "")?.[1];
      if (said !== undefined) return said.replace(/\s+/g, " ").slice(0, LIMIT);
    }
  }
  return undefined;
}
