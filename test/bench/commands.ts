import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { promisify } from "node:util";

const execute = promisify(execFile);
const seen = new Set<string>();

/** Runs a program to its end; rejects where it fails. */
export function run(
  program: string,
  args: readonly string[],
  options: { cwd?: string } = {},
): Promise<{ stdout: string }> {
  note([program, ...args]);
  return execute(program, args, { ...options, encoding: "utf8", maxBuffer: 64 * 2 ** 20 });
}

/** Starts a program. */
export function launch(program: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  note([program, ...args]);
  return spawn(program, args, options);
}

/** Remembers a command for the report. */
export function note(words: readonly string[]): void {
  seen.add(words.map(shorten).join(" "));
}

/** The commands that were run since the last call, each once, without what differs from run to run. */
export function takeCommands(): string[] {
  const commands = [...seen];
  seen.clear();
  return commands;
}

/** Directories and numbers that belong to one run are left out, and with them the way to this machine's files. */
function shorten(word: string): string {
  return (
    word
      .replaceAll(/\/[\w./+-]*\/(?=[\w.-]+)/g, (path) => (path.startsWith("/dev/") ? path : "…/"))
      .replaceAll(/-\d+(?=\.|$)/g, "")
      .replaceAll(/\b(run|bench-\w+|relocation|writes|resources)-\w{6}\b/g, "$1")
      .replaceAll(/\b[0-9a-f]{64}\b/g, "SNAPSHOT")
      // Whoever knows an export's path may mount it.
      .replaceAll(/[\w-]{43}/g, "EXPORT")
      .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:PORT")
  );
}
