import { Command } from "commander";
import { checkNodeCommand } from "./commands/check-node.ts";
import { copyStateCommand } from "./commands/copy-state.ts";
import { inspectCommand } from "./commands/inspect.ts";
import { labCommand } from "./commands/lab.ts";
import { mediaAgentCommand } from "./commands/media-agent.ts";
import { operatorCommand } from "./commands/operator.ts";
import { quickstartCommand } from "./commands/quickstart.ts";
import { relocateCommand } from "./commands/relocate.ts";
import { restoreStateCommand } from "./commands/restore-state.ts";
import { reportFailure } from "./report-failure.ts";

/**
 * The `vmrestore` command. One file per command under commands/: it defines the options and imports the layer that does the
 * work only when the command runs, so that every command starts quickly.
 */
const program = new Command("vmrestore")
  .description("Brings a KubeVirt virtual machine back from its backup in seconds")
  .showHelpAfterError()
  .addCommand(mediaAgentCommand())
  .addCommand(relocateCommand())
  .addCommand(restoreStateCommand())
  .addCommand(copyStateCommand())
  .addCommand(inspectCommand())
  .addCommand(checkNodeCommand())
  .addCommand(operatorCommand())
  .addCommand(labCommand())
  .addCommand(quickstartCommand());

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportFailure(error);
}
