import { Command } from "commander";
import { AGENT_PORTS } from "../../api/agent-config.ts";
import { AgentControlClient } from "../../api/agent-control-client.ts";
import { createLogger } from "../../base/logging.ts";
import { readTls } from "../../base/tls-files.ts";
import { terminationSignal } from "../termination.ts";

interface Options {
  readonly agent: string;
  readonly tlsDir: string;
  readonly into: string;
  readonly backedUpAs: string;
  readonly machine: string;
}

export function restoreStateCommand(): Command {
  return new Command("restore-state")
    .description("put a machine's TPM and firmware state out of its backup onto its claim")
    .requiredOption("--agent <address>", "the media agent's address, which its certificate bears")
    .requiredOption("--tls-dir <directory>", "holds tls.crt, tls.key and ca.crt")
    .requiredOption("--into <directory>", "where the claim is mounted")
    .requiredOption("--backed-up-as <name>", "the machine's name when it was backed up")
    .requiredOption("--machine <name>", "the machine's name now")
    .action(async ({ agent, tlsDir, into, backedUpAs, machine }: Options) => {
      const { restoreState } = await import("../../relocation/restore-state.ts");
      const tls = await readTls(tlsDir);
      const client = new AgentControlClient({ host: agent, port: AGENT_PORTS.control, tls });
      try {
        const names = { was: backedUpAs, is: machine };
        const log = createLogger("restore-state");
        await restoreState({ client, directory: into, machine: names, log }, terminationSignal());
      } finally {
        client.close();
      }
    });
}
