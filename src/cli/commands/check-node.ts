import { Command } from "commander";
import type { CheckNodeOptions } from "../../node-check/check-node.ts";

export function checkNodeCommand(): Command {
  return new Command("check-node")
    .description(
      "find out whether the node that this runs on can mount what a media agent serves; writes JSON to a file",
    )
    .requiredOption("--host-root <directory>", "holds the node's folders bin, sbin, lib/modules and sys/fs")
    .option("--proc <directory>", "the node's /proc, where it is another", "/proc")
    .requiredOption("--result <file>", "where the report goes")
    .action(async (options: CheckNodeOptions) => {
      const { checkNode } = await import("../../node-check/check-node.ts");
      await checkNode(options);
    });
}
