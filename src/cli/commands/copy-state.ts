import { Command } from "commander";

interface Options {
  readonly from: string;
  readonly into: string;
}

export function copyStateCommand(): Command {
  return new Command("copy-state")
    .description("put a copy of a machine's TPM and firmware state onto another claim")
    .requiredOption("--from <directory>", "where the claim that holds it is mounted")
    .requiredOption("--into <directory>", "where the other claim is mounted")
    .action(async ({ from, into }: Options) => {
      const { createLogger } = await import("../../base/logging.ts");
      const { copyState } = await import("../../relocation/copy-state.ts");
      await copyState({ from, into, log: createLogger("copy-state") });
    });
}
