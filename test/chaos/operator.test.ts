// The operator's courses under random faults, with VMRESTORE_CHAOS_RUNS seeds instead of a few.
import "../../src/operator/vm-restore/courses.test.ts";
import "../../src/operator/watch-faults.test.ts";
