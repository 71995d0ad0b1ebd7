import { rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { type AgentMove, agentMove } from "../api/agent-control.ts";
import { readIfThere, replaceFile } from "../base/durable-file.ts";
import { errorCode } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";

const FILE = "run.json";

const record = z.strictObject({
  /** Where the process runs, or ran. */
  node: z.string(),
  /** When it stopped answering, in milliseconds since the epoch; absent while it runs, and where it did not end in order. */
  stopped: z.int().optional(),
  /** Nobody was being served when it was asked to end: nobody waits since then. */
  unused: z.literal(true).optional(),
  move: agentMove.optional(),
});
type Record = z.infer<typeof record>;

/**
 * Where the agent ran last and when it stopped answering, on the overlay's claim: what the next process tells the pause of a move
 * from. It is worth less than the disk: what cannot be read or written is done without.
 */
export class RunRecord {
  readonly #path: string;
  readonly #log: Logger;
  #record: Record;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, log: Logger, initial: Record) {
    this.#path = path;
    this.#log = log;
    this.#record = initial;
  }

  /** Begins a run. @param node where; another one than that of the run before makes it a move */
  static async open(directory: string, node: string, log: Logger, now: number): Promise<RunRecord> {
    const path = join(directory, FILE);
    const before = await readRecord(path);
    const move = before === undefined || before.node === node ? before?.move : moved(before, node, now);
    const opened = new RunRecord(path, log, { node, ...(move === undefined ? {} : { move }) });
    await opened.#save();
    return opened;
  }

  /** The last move to another node, whichever process saw it. */
  get move(): AgentMove | undefined {
    return this.#record.move;
  }

  /** A client of the exports got its first answer of this process. */
  answered(at: number): void {
    const { move, node } = this.#record;
    if (move === undefined || move.to !== node || move.answered !== undefined) return;
    this.#record = { ...this.#record, move: { ...move, answered: at } };
    void this.#save();
  }

  /** Nobody gets an answer any more. Durable when it resolves. @param use whether anybody was being served until then */
  async stopped(at: number, use: "used" | "unused" = "used"): Promise<void> {
    this.#record = { ...this.#record, stopped: at, ...(use === "unused" ? { unused: true } : {}) };
    await this.#save();
  }

  #save(): Promise<void> {
    const text = JSON.stringify(this.#record);
    this.#saving = this.#saving.then(async () => {
      try {
        await replaceFile(this.#path, text);
      } catch (error) {
        this.#log.warn({ code: errorCode(error) }, "how long the next move takes may stay unknown");
        // What an earlier process said of its end is not this one's.
        await rm(this.#path, { force: true }).catch(() => undefined);
      }
    });
    return this.#saving;
  }
}

/** A move from where the run before was. */
function moved(before: Record, to: string, now: number): AgentMove {
  const since = before.stopped === undefined ? undefined : silentSince(before);
  return { from: before.node, to, started: now, ...(since === undefined ? {} : { stopped: since }) };
}

/** Since when somebody waits that a run has left which ended in order: undefined where nobody does, or nobody knows. */
function silentSince({ node, stopped, unused, move }: Record): number | undefined {
  // It answered nobody: who waits has done so since the move before.
  if (move?.to === node && move.answered === undefined) return move.stopped;
  return unused === true ? undefined : stopped;
}

async function readRecord(path: string): Promise<Record | undefined> {
  try {
    const text = await readIfThere(path);
    return text === undefined ? undefined : record.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
