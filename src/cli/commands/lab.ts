import { join } from "node:path";
import { Command } from "commander";
import { terminationSignal } from "../termination.ts";

interface Options {
  readonly directory: string;
}

export function labCommand(): Command {
  return new Command("lab")
    .description("run an embedded cluster for trying and testing, until Ctrl-C")
    .option("--directory <directory>", "where everything of it lies", ".lab")
    .action(async ({ directory }: Options) => {
      const { createLogger } = await import("../../base/logging.ts");
      const { startLab } = await import("../../lab/lab.ts");
      const signal = terminationSignal();
      const lab = await startLab({
        directory: join(process.cwd(), directory),
        cliEntry: process.argv[1] ?? "",
        crds: join(import.meta.dirname, "../../../crds"),
        logger: createLogger("lab"),
      });
      process.stdout.write(`export KUBECONFIG=${lab.kubeconfigPath}\n`);
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      await lab.close();
    });
}
