/**
 * Runs `body` with a signal that is aborted with the first of `signals`, for its reason. Nothing of it stays with them afterwards:
 * `AbortSignal.any` leaves some 300 bytes with each signal for as long as that lives (Node 24), and looks through all of them whenever
 * one of its own is collected. Signals that end with the process, and are waited for once a second by many, keep the event loop for
 * seconds then.
 */
export async function withEither<T>(
  signals: readonly AbortSignal[],
  body: (either: AbortSignal) => Promise<T>,
): Promise<T> {
  const either = new AbortController();
  const aborted = signals.find((signal) => signal.aborted);
  if (aborted !== undefined) either.abort(aborted.reason);
  const onAbort = (event: Event): void => either.abort((event.target as AbortSignal).reason);
  for (const signal of signals) signal.addEventListener("abort", onAbort);
  try {
    return await body(either.signal);
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", onAbort);
  }
}
