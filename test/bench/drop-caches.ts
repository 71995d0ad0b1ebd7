import { execFile } from "node:child_process";
import { promisify } from "node:util";

/**
 * Takes the files below a path out of the kernel's page cache, so that no contender reads what another one warmed. Programs stay in
 * it: how long they take to load is not what is measured.
 */
export async function dropCaches(...paths: readonly string[]): Promise<void> {
  await promisify(execFile)("sync", ["-f", ...paths]);
  const forget = ["dd", "if={}", "iflag=nocache", "count=0", "status=none"];
  await promisify(execFile)("find", [...paths, "-type", "f", "-exec", ...forget, ";"]);
}
