import { join } from "node:path";
import { Command } from "commander";
import { terminationSignal } from "../termination.ts";

interface Options {
  readonly directory: string;
  readonly exit: boolean;
}

export function quickstartCommand(): Command {
  return new Command("quickstart")
    .description("lose a virtual machine and bring it back from its backup, in an embedded cluster")
    .option("--directory <directory>", "where everything is built", ".quickstart")
    .option("--exit", "end when the machine is back, instead of keeping the cluster to look around", false)
    .action(async (options: Options) => {
      const { runQuickstart } = await import("../../lab/quickstart/quickstart.ts");
      const { createOutput } = await import("../../lab/quickstart/output.ts");
      const root = join(import.meta.dirname, "../../..");
      const signal = terminationSignal();
      const running = runQuickstart({
        directory: join(process.cwd(), options.directory),
        cliEntry: process.argv[1] ?? "",
        crds: join(root, "crds"),
        examples: join(root, "examples"),
        output: createOutput((text) => process.stdout.write(text), process.stdout.isTTY, Date.now),
        stay: !options.exit,
        signal,
      });
      // Ctrl-C is how a quickstart is ended, not a failure of it.
      await running.catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    });
}
