/** Aborted by the first SIGTERM or SIGINT; a second one ends the process as it would have without us. */
export function terminationSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => controller.abort(new Error(`ended by ${name}`)));
  }
  return controller.signal;
}

/**
 * Everything that matters is done: a request that nobody answers, or a read that hangs in the kernel, keeps the process no longer than
 * so many milliseconds. Not by an exit, which waits for threads.
 */
export function endWithin(ms: number): void {
  setTimeout(() => process.kill(process.pid, "SIGKILL"), ms).unref();
}
