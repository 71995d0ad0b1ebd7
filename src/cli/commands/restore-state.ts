import { Command } from "commander";
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
      const { AGENT_PORTS } = await import("../../api/agent-config.ts");
      const { AgentControlClient } = await import("../../api/agent-control-client.ts");
      const { createLogger } = await import("../../base/logging.ts");
      const { readTls } = await import("../../base/tls-files.ts");
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
