import type { AggregatedResult, Reporter, TestContext } from "@jest/reporters";

/** Prints the one line that says how the whole run ended: `N passed, N failed, N skipped`. */
export default class SummaryReporter implements Pick<Reporter, "onRunComplete"> {
  onRunComplete(_contexts: Set<TestContext>, results: AggregatedResult): void {
    // A suite that could not even be loaded counts as a failed test.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
    const skipped = results.numPendingTests + results.numTodoTests;
    const tail = skipped > 0 ? `, ${skipped} skipped` : "";
    process.stdout.write(`${results.numPassedTests} passed, ${failed} failed${tail}\n`);
  }
}
