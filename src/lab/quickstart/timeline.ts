/** One step of a restore, as the VMRestore's status tells it. */
interface TimelineStep {
  readonly step: string;
  readonly startedAt: string;
  readonly finishedAt?: string | undefined;
}

/** @param ms milliseconds */
export function formatDuration(ms: number): string {
  if (ms < 100_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** @param share from 0 to 1 */
export function progressBar(share: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}

/**
 * A line for each step, with a bar where it lay in time.
 *
 * @param now milliseconds since the epoch: the end of steps that go on
 * @param width characters of the bars' field
 */
export function renderTimeline(steps: readonly TimelineStep[], now: number, width: number): string[] {
  if (steps.length === 0) return [];
  const spans = steps.map(({ step, startedAt, finishedAt }) => {
    const start = Date.parse(startedAt);
    return {
      step,
      start,
      end: finishedAt === undefined ? now : Date.parse(finishedAt),
      isOver: finishedAt !== undefined,
    };
  });
  const from = Math.min(...spans.map(({ start }) => start));
  const whole = Math.max(1, Math.max(...spans.map(({ end }) => end)) - from);
  const nameWidth = Math.max(...spans.map(({ step }) => step.length));
  return spans.map(({ step, start, end, isOver }) => {
    const left = Math.min(width - 1, Math.round(((start - from) / whole) * width));
    const bar = "█".repeat(Math.max(1, Math.min(width - left, Math.round(((end - start) / whole) * width))));
    const duration = formatDuration(end - start);
    return `${step.padEnd(nameWidth)}  │${(" ".repeat(left) + bar).padEnd(width)}│ ${duration}${isOver ? "" : " and going on"}`;
  });
}
