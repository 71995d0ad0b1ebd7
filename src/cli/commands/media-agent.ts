import { Command } from "commander";
import type { MediaAgentOptions } from "../../media-agent/options.ts";
import { endWithin, terminationSignal } from "../termination.ts";

/** Enough to take a lock out of a repository that answers. The next agent starts when this one's process is gone. */
const LAST_MS = 2000;

export function mediaAgentCommand(): Command {
  return new Command("media-agent")
    .description("serve the disks of one restore from its backup, until SIGTERM")
    .requiredOption("--config <file>", "what to serve, JSON")
    .option("--repository-dir <directory>", "the restic repository, where it lies in a mounted volume")
    .requiredOption("--repository-password-file <file>", "the repository's password")
    .option("--repository-credentials-dir <directory>", "holds a server's credentials, one a file")
    .option("--other-repository-dir <index=directory>", "the same of a further repository", collect)
    .option("--other-repository-password-file <index=file>", "the same of a further repository", collect)
    .option("--other-repository-credentials-dir <index=directory>", "the same of a further repository", collect)
    .requiredOption("--overlay-dir <directory>", "where the guest's writes go; must outlive the pod")
    .requiredOption("--cache-dir <directory>", "the read cache; may be lost")
    .requiredOption("--tls-dir <directory>", "holds tls.crt, tls.key and ca.crt")
    .option("--profile-file <file>", "the boot profile of an earlier boot")
    .requiredOption("--listen-address <ip>", "the address of every server")
    .option("--node <name>", "the node that it runs on, to tell how long a move to another one took")
    .option("--portmapper", "answer a portmapper's GETPORT on port 111, for clients that take no port", false)
    .action(async (options: MediaAgentOptions) => {
      const { runMediaAgent } = await import("../../media-agent/run.ts");
      await runMediaAgent(options, terminationSignal()).finally(() => endWithin(LAST_MS));
    });
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
