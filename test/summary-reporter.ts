import { writeFileSync } from "node:fs";

/** The counts of jest's aggregated result that are of interest here. */
interface Results {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numRuntimeErrorTestSuites: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
}

/**
 * Writes the one line that says how the whole run ended, `N passed, N failed, N skipped`, to the file that
 * scripts/run-tests prints last.
 */
export default class SummaryReporter {
  onRunComplete(_contexts: unknown, results: Results): void {
    const file = process.env.VMRESTORE_TEST_SUMMARY;
    if (file === undefined) return;
    // A suite that could not even be loaded counts as a failed test.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const tail = skipped > 0 ? `, ${skipped} skipped` : "";
    writeFileSync(file, `${results.numPassedTests} passed, ${failed} failed${tail}\n`);
  }
}
