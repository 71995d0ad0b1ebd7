import { writeFileSync } from "node:fs";
import type { AggregatedResult, Reporter, TestContext } from "@jest/reporters";

/**
 * Writes the one line that says how the whole run ended, `N passed, N failed, N skipped`, to the file that
 * scripts/run-tests prints last.
 */
export default class SummaryReporter implements Pick<Reporter, "onRunComplete"> {
  onRunComplete(_contexts: Set<TestContext>, results: AggregatedResult): void {
    const file = process.env.VMRESTORE_TEST_SUMMARY;
    if (file === undefined) return;
    // A suite that could not even be loaded counts as a failed test.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const tail = skipped > 0 ? `, ${skipped} skipped` : "";
    writeFileSync(file, `${results.numPassedTests} passed, ${failed} failed${tail}\n`);
  }
}
