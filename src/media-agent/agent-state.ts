import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import * as z from "zod";
import { bootProfile, type DiskBus, diskBus, phaseRequest, relocationProgress } from "../api/agent-control.ts";
import { makeDurable, readIfThere, replaceFile } from "../base/durable-file.ts";
import { AgentError } from "./errors.ts";
import { type WriterFence, writerFence } from "./writer-fence.ts";

const FILE = "agent.json";

const diskState = z.strictObject({
  /** Unguessable; whoever knows it may mount. */
  exportPath: z.string().regex(/^\/[\w-]{43}$/),
  /** Base64url of 32 bytes. */
  handleKey: z.string().regex(/^[\w-]{43}$/),
  /** Decimal, 63 bits. */
  fsid: z.string().regex(/^\d{1,19}$/),
  relocation: relocationProgress.optional(),
  bus: diskBus.default("virtio"),
  /** Of this export path; absent until it is mounted, or where an earlier version did not number mounts. */
  fence: writerFence.optional(),
});

const state = z.strictObject({
  restore: z.string(),
  snapshot: z.string(),
  /** The highest epoch that has run on this claim. */
  epoch: z.int().nonnegative(),
  phase: phaseRequest.shape.phase.optional(),
  /** Bytes a second for the copy Job. */
  relocationLimit: z.int().positive().optional(),
  /** The operator has taken the pin away: it is not made again. */
  unpinned: z.boolean().default(false),
  /** What it learned may be lost, if another version wrote it; nothing else may. */
  profile: bootProfile.optional().catch(undefined),
  disks: z.record(z.string(), diskState),
});

export type DiskState = z.infer<typeof diskState>;
type State = z.infer<typeof state>;

/** Who runs, for the checks that keep another restore's or an older agent out. */
export interface AgentIdentity {
  readonly restore: string;
  readonly snapshot: string;
  readonly epoch: number;
  readonly disks: readonly string[];
}

/**
 * What the agent itself remembers across restarts, on the overlay's claim beside the overlays: export paths and keys, so that
 * mounted clients go on; the relocation's progress; the learned profile. Every change is durable when it resolves.
 */
export class AgentState {
  readonly #path: string;
  #state: State;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, initial: State) {
    this.#path = path;
    this.#state = initial;
  }

  /**
   * @throws AgentError STATE_MISMATCH where the claim belongs to another restore or snapshot, or cannot be read; STALE_EPOCH
   * where a later epoch has run on it
   */
  static async open(directory: string, identity: AgentIdentity): Promise<AgentState> {
    const path = join(directory, FILE);
    const text = await readIfThere(path);
    const found = text === undefined ? undefined : parseState(text);
    if (found !== undefined) checkFits(found, identity);
    const disks: Record<string, DiskState> = {};
    for (const name of identity.disks) disks[name] = found?.disks[name] ?? newDiskState();
    const { restore, snapshot, epoch } = identity;
    const initial = { unpinned: false, ...found, restore, snapshot, epoch, disks };
    const opened = new AgentState(path, initial);
    // On a full claim there is no room to write what stands there already.
    if (isDeepStrictEqual(found, initial)) await makeDurable(path);
    else await opened.#change(() => undefined);
    return opened;
  }

  get current(): Readonly<State> {
    return this.#state;
  }

  disk(name: string): DiskState {
    const found = this.#state.disks[name];
    if (found === undefined) throw new AgentError("NOT_FOUND", `there is no disk ${name}`);
    return found;
  }

  /** A new export path and handle key, mounted by nobody: whoever knew the old ones is out. */
  renewExport(name: string): Promise<void> {
    return this.#change((draft) => {
      const { exportPath, handleKey } = newDiskState();
      const { fence: _, ...kept } = this.disk(name);
      draft.disks[name] = { ...kept, exportPath, handleKey };
    });
  }

  /** @param exportPath whose mounts they are: where it is another by now, nothing is changed */
  async setFence(name: string, exportPath: string, fence: WriterFence): Promise<void> {
    await this.#change((draft) => {
      if (this.disk(name).exportPath === exportPath) draft.disks[name] = { ...this.disk(name), fence };
    });
  }

  setRelocation(name: string, relocation: NonNullable<DiskState["relocation"]>): Promise<void> {
    return this.#change((draft) => {
      draft.disks[name] = { ...this.disk(name), relocation };
    });
  }

  setBus(name: string, bus: DiskBus): Promise<void> {
    return this.#change((draft) => {
      draft.disks[name] = { ...this.disk(name), bus };
    });
  }

  setPhase(phase: NonNullable<State["phase"]>): Promise<void> {
    return this.#change((draft) => {
      draft.phase = phase;
    });
  }

  /** @param bytesPerSecond null: no limit */
  setRelocationLimit(bytesPerSecond: number | null): Promise<void> {
    return this.#change((draft) => {
      if (bytesPerSecond === null) delete draft.relocationLimit;
      else draft.relocationLimit = bytesPerSecond;
    });
  }

  setProfile(profile: NonNullable<State["profile"]>): Promise<void> {
    return this.#change((draft) => {
      draft.profile = profile;
    });
  }

  setUnpinned(): Promise<void> {
    return this.#change((draft) => {
      draft.unpinned = true;
    });
  }

  /** Resolves when the last change is durable. */
  settled(): Promise<void> {
    return this.#saving.catch(() => undefined);
  }

  /** One write after the other; what is visible is what was made durable. */
  #change(edit: (draft: State) => void): Promise<void> {
    const saved = this.settled().then(async () => {
      const draft = { ...this.#state, disks: { ...this.#state.disks } };
      edit(draft);
      await replaceFile(this.#path, JSON.stringify(draft));
      this.#state = draft;
    });
    this.#saving = saved;
    return saved;
  }
}

function newDiskState(): DiskState {
  return {
    exportPath: `/${randomBytes(32).toString("base64url")}`,
    handleKey: randomBytes(32).toString("base64url"),
    fsid: String(randomBytes(8).readBigUInt64BE() >> 1n),
    bus: "virtio",
  };
}

function parseState(text: string): State {
  try {
    return state.parse(JSON.parse(text));
  } catch {
    throw new AgentError("STATE_MISMATCH", `${FILE} on the overlay's claim is not one of this version`, {
      hint: "The claim belongs to another version of the product, or was damaged.",
    });
  }
}

function checkFits(found: State, { restore, snapshot, epoch }: AgentIdentity): void {
  if (found.restore !== restore || found.snapshot !== snapshot) {
    throw new AgentError("STATE_MISMATCH", "the overlay's claim belongs to another restore or another snapshot", {
      hint: "Give each restore a claim of its own.",
    });
  }
  if (found.epoch > epoch) {
    throw new AgentError("STALE_EPOCH", `epoch ${found.epoch} has run on this claim; ${epoch} is over`, {
      hint: "Another media agent has taken over.",
    });
  }
}
