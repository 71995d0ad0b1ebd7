import { Command, InvalidArgumentError } from "commander";
import { terminationSignal } from "../termination.ts";

interface Options {
  readonly agent: string;
  readonly tlsDir: string;
  readonly disk: { name: string; path: string }[];
  readonly verify: boolean;
}

export function relocateCommand(): Command {
  return new Command("relocate")
    .description("copy disks from a media agent to their targets, until each was sealed and is whole")
    .requiredOption("--agent <address>", "the media agent's address, which its certificate bears")
    .requiredOption("--tls-dir <directory>", "holds tls.crt, tls.key and ca.crt")
    .requiredOption(
      "--disk <name=path>",
      "a disk and its target: a block device, or a directory (repeatable)",
      collectDisk,
      [],
    )
    .option("--verify", "compare checksums at the end", false)
    .action(async ({ agent, tlsDir, disk, verify }: Options) => {
      const { AGENT_PORTS } = await import("../../api/agent-config.ts");
      const { createLogger } = await import("../../base/logging.ts");
      const { readTls } = await import("../../base/tls-files.ts");
      const { runRelocation } = await import("../../relocation/relocate.ts");
      const tls = await readTls(tlsDir);
      await runRelocation(
        {
          agent: { host: agent, controlPort: AGENT_PORTS.control, nbdPort: AGENT_PORTS.nbd, tls },
          disks: disk,
          verify,
          log: createLogger("relocation"),
        },
        terminationSignal(),
      );
    });
}

function collectDisk(text: string, before: Options["disk"]): Options["disk"] {
  const [, name, path] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || path === undefined) throw new InvalidArgumentError("give NAME=PATH");
  return [...before, { name, path }];
}
