import type { Generation } from "../api/agent-control.ts";
import type { AgentSession } from "./agent-session.ts";
import { copyPieces } from "./copy-pieces.ts";
import type { PassContext } from "./first-pass.ts";
import type { SourceRun } from "./source.ts";

export interface DirtyPassContext extends PassContext {
  readonly disk: string;
  readonly session: AgentSession;
}

/**
 * One pass over the dirty pages: freeze a generation, copy what it names, sync the target, drop it. A pass belongs to one
 * connection, opened before the freeze: an agent that restarts meanwhile breaks it, and nothing was dropped.
 *
 * @throws NbdError where the connection broke; AgentControlError with status 409 where the generation is another one by now
 */
export async function dirtyPass(context: DirtyPassContext, signal: AbortSignal): Promise<Generation> {
  const { source, target, session, disk, progress, buffers } = context;
  const generation = await session.ask((client) => client.freezeGeneration(disk, signal), signal);
  if (generation.final) await progress.tell({ state: "FinalPass" }, signal);
  let copied = 0;
  if (generation.bytes > 0) {
    await copyPieces(
      onlyDirty(source.dirty(0, target.heldBackFrom)),
      {
        slots: context.slots,
        // The guest stands still during the last pass: then the limit would cost more than it saves.
        bucket: generation.final ? undefined : context.bucket,
        fraction: () => 1,
        begin: (piece) => () => {
          copied += piece.length;
        },
        copy: ({ offset, length }) =>
          buffers.use(async (buffer) => target.write(offset, await source.read(offset, length, buffer), false)),
      },
      signal,
    );
  }
  await source.flush();
  await target.sync();
  progress.count(copied);
  await session.ask((client) => client.dropGeneration(disk, generation.id, signal), signal);
  return generation;
}

async function* onlyDirty(runs: AsyncIterable<SourceRun>): AsyncGenerator<SourceRun> {
  for await (const run of runs) if (run.matters) yield run;
}
