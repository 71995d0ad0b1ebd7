import { spawn } from "node:child_process";
import { VmRestoreError } from "../../base/errors.ts";

/** A program that the quickstart needs failed or is missing. */
export class CommandError extends VmRestoreError {
  constructor(program: string, detail: string, options: { cause?: unknown } = {}) {
    super("COMMAND_FAILED", `${program} failed: ${detail}`, {
      ...options,
      hint: `Run \`make setup\`, then try \`${program}\` by hand.`,
    });
  }
}

/** What a finished program wrote to standard output. The last 4 KiB of standard error go into the error. */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: { env?: Record<string, string>; cwd?: string; signal?: AbortSignal } = {},
): Promise<string> {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  let output = "";
  let complaint = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-4096);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", (cause) => reject(new CommandError(program, cause.message, { cause })));
    child.once("close", resolve);
  });
  if (code !== 0) throw new CommandError(program, `exit code ${code}: ${complaint.trim()}`);
  return output;
}
