import { Command } from "commander";
import type { CheckNodeOptions } from "../../node-check/check-node.ts";

export function checkNodeCommand(): Command {
  return new Command("check-node")
    .description(
      "find out whether the node that this runs on can mount what a media agent serves; writes JSON to a file",
    )
    .requiredOption("--bin <directory>", "the node's /bin")
    .requiredOption("--sbin <directory>", "the node's /sbin")
    .requiredOption("--modules <directory>", "the node's /lib/modules")
    .requiredOption("--sysfs <directory>", "the node's /sys/fs")
    .option("--proc <directory>", "the node's /proc; any container sees enough of it", "/proc")
    .requiredOption("--result <file>", "where the report goes")
    .action(async (options: CheckNodeOptions) => {
      const { checkNode } = await import("../../node-check/check-node.ts");
      await checkNode(options);
    });
}
