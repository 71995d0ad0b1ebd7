import { Command } from "commander";
import type { InspectOptions } from "../../media-agent/inspection.ts";

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("look into a repository; the result, errors included, goes to a file as JSON")
    .option("--repository <json>", "where the repository lies; by default in the volume that --repository-dir names")
    .option("--repository-dir <directory>", "the restic repository, where it lies in a mounted volume")
    .requiredOption("--repository-password-file <file>", "the repository's password")
    .option("--repository-credentials-dir <directory>", "holds a server's credentials, one a file")
    .option("--selector <json>", "the snapshot and disks to look for; without it only the repository is looked at")
    .requiredOption("--result <file>", "where the result goes")
    .action(async (options: InspectOptions) => {
      const { runInspection } = await import("../../media-agent/inspection.ts");
      await runInspection(options);
    });
}
