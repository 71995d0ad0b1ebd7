import * as z from "zod";
import { bootProfile } from "./boot-profile.ts";
import { peersRequest } from "./peers.ts";

/**
 * The media agent's control API: JSON over HTTPS with mutual TLS, spoken by the operator and the relocation Job.
 *
 * | request | body → answer |
 * |---|---|
 * | GET /v1/status | → {@link agentStatus} |
 * | GET /v1/manifest | → the VirtualMachine manifest of the snapshot as JSON, 404 where it holds none |
 * | GET /v1/objects | → the Kubernetes objects beside that manifest, Secrets among them, as a JSON array; empty where there are none |
 * | GET /v1/state/files | → {@link stateListing}: the files of the machine's TPM and firmware in the snapshot, empty where there are none |
 * | GET /v1/state | → {@link machineState}: the same with their content |
 * | GET /v1/profile | → {@link bootProfile}, 404 until a boot became ready |
 * | PUT /v1/phase | {@link phaseRequest} → 204; idempotent |
 * | PUT /v1/disks/{disk}/seal | {@link sealRequest} → 204; durable when answered, idempotent per epoch |
 * | DELETE /v1/disks/{disk}/seal | {@link sealRequest} → 204; the export gets a new path and key |
 * | PUT /v1/disks/{disk}/bus | {@link busRequest} → 204; durable when answered. Until told, a disk is taken for `virtio` |
 * | POST /v1/disks/{disk}/generation | → {@link generation}: freezes the pages dirty now; idempotent while one is frozen |
 * | DELETE /v1/disks/{disk}/generation/{id} | → 204; what it names is durable at the target |
 * | PUT /v1/disks/{disk}/relocation | {@link relocationProgress} → 204; durable when answered |
 * | PUT /v1/relocation-limit | {@link limitRequest} → 204; durable when answered. The relocation Job reads it in the status |
 * | PUT /v1/peers | {@link peersRequest} → 204; the agents that it shares blobs with. Forgotten with the process |
 * | DELETE /v1/pin | → 204; the pin is gone from the repository and is not made again |
 *
 * A refusal is {@link controlError} with a 4xx or 5xx status.
 *
 * An agent runs on with the image that it was made with, whatever becomes of the operator: upgraded, or rolled back. So requests are strict,
 * because what an agent does not know it cannot do, and answers are not: what is not known of them is left out.
 */

/** Common names of client certificates. */
export const CLIENT_ROLES = { operator: "operator", relocation: "relocation" } as const;

/** What the VM is doing; decides how reads are scheduled. `Ready` is sent when the guest became ready. */
export const phaseRequest = z.strictObject({
  phase: z.enum(["Staging", "Booting", "Ready", "BootFailed", "Relocating"]),
});

export const sealRequest = z.strictObject({ epoch: z.int().nonnegative() });

/** How the guest sees the disk. All but virtio have timers in the guest, after which it gives the disk up. */
export const diskBus = z.enum(["virtio", "scsi", "sata", "usb"]);

export const busRequest = z.strictObject({ bus: diskBus });

/** Bytes a second for the copy Job, all disks together; null: as fast as it can. */
export const limitRequest = z.strictObject({ bytesPerSecond: z.int().positive().nullable() });

export const generation = z.object({
  id: z.int().positive(),
  /** Bytes of the frozen pages; read them as the NBD meta context `qemu:dirty-bitmap:relocation`. */
  bytes: z.int().nonnegative(),
  /** Whether the disk was sealed when this generation was frozen: then it is the last one. */
  final: z.boolean(),
});

export const relocationProgress = z.strictObject({
  /** Which target that is: the name in its marker (docs/relocation.md). Another target starts from nothing. */
  target: z.string().max(64).optional(),
  /** Everything below it was copied once and is durable at the target; the first pass resumes there. */
  cursor: z.int().nonnegative(),
  /** Bytes that the first pass has to look at, and has made durable at the target. */
  bytesTotal: z.int().nonnegative(),
  bytesDurable: z.int().nonnegative(),
  /** Bytes per second over the last measured window. */
  rate: z.number().nonnegative(),
  state: z.enum(["FirstPass", "Converging", "Converged", "FinalPass", "Verifying", "Done", "VerifyFailed"]),
  /** SHA-256 over the whole merged image, hex; only with state Done after a verification. */
  checksum: z.string().optional(),
});

export const diskStatus = z.object({
  name: z.string(),
  size: z.int(),
  /** The NFS export's path, a capability: never log it. */
  exportPath: z.string(),
  sealed: z.boolean(),
  /** As it was told last; none is virtio. */
  bus: diskBus.optional(),
  overlayBytes: z.int(),
  /** Bytes written since the last frozen generation. */
  dirtyBytes: z.int(),
  /** The machine that has written last, as it says itself; absent where none has yet. */
  writer: z.string().optional(),
  /** Writes of machines that have mounted before that one did, since the agent's start. */
  refusedWrites: z.int().nonnegative().optional(),
  /** The machine, empty where it has no name, whose write was refused last; only while that is less than ten minutes ago. */
  refusedWriter: z.string().optional(),
  /** Bytes of the first set that are staged, and all of it. */
  bootSetStaged: z.int(),
  bootSetTotal: z.int(),
  /** How far a copy that reads through the export (a live migration's) has come; absent before there is any, or where none was told from the guest's reads. */
  copiedUntil: z.int().nonnegative().optional(),
  relocation: z.object(relocationProgress.shape).optional(),
});

/** How much of what the disks need is in the agent's cache, in bytes. */
export const hydration = z.object({
  needed: z.int().nonnegative(),
  /** What is in the cache, and outlasts a power failure of its node there. */
  safe: z.int().nonnegative(),
  /** What neither the cache has nor the repository can give any more. */
  lost: z.int().nonnegative(),
  /** Nothing more is going to be fetched. */
  done: z.boolean(),
  /** The cache has no room for all that could be fetched. */
  cacheFull: z.boolean(),
});

/**
 * A move of the agent to another node. Times are milliseconds since the epoch, each by the clock of the node on which it was taken:
 * a difference between the two clocks is in what is worked out from both.
 */
export const agentMove = z.object({
  from: z.string().max(253),
  to: z.string().max(253),
  /** When the agent on the old node stopped answering; absent where it did not end in order. */
  stopped: z.int().optional(),
  /** When the process on the new one began. */
  started: z.int(),
  /** When it gave a client of the exports the first answer; absent until it did. */
  answered: z.int().optional(),
});

export const agentStatus = z.object({
  /** Changes with every start of the process. */
  instance: z.string(),
  epoch: z.int(),
  snapshot: z.string(),
  /** True once every export is served. */
  serving: z.boolean(),
  bootSet: z.object({
    source: z.enum(["Profile", "Structure"]),
    complete: z.boolean(),
    /** A machine that is started now finds what it reads staged: what is left is staged before the machine comes to it. */
    launchable: z.boolean(),
    bytes: z.int(),
    staged: z.int(),
    /** Guest reads while booting that found their data in the cache or overlay, of all such reads. */
    guestReads: z.int(),
    guestHits: z.int(),
  }),
  repository: z.object({
    /** False while requests to the repository fail; reads wait meanwhile. */
    reachable: z.boolean(),
    /** Why, in words for people. */
    message: z.string(),
    bytesFetched: z.int(),
    /** Bytes of disks per second, over the time in which the repository was read from; absent until enough was. */
    bytesPerSecond: z.number().positive().optional(),
    pinned: z.boolean(),
    pinMessage: z.string(),
    /** Only while the backup may vanish, as its snapshot was forgotten or parts of it are gone already. */
    hydration: hydration.optional(),
    /** Milliseconds that the oldest read under way, guest's or relocation's, has been waiting for what is not cached. */
    longestWait: z.number().nonnegative().optional(),
  }),
  /** See {@link limitRequest}; absent: no limit. */
  relocationLimit: z.int().positive().optional(),
  overlay: z.object({
    /** Writes wait for space. */
    full: z.boolean(),
    /** There is not even what is kept for bookkeeping: nothing becomes durable, and no disk can be moved, until the claim grows. */
    stuck: z.boolean().optional(),
    bytesUsed: z.int(),
    bytesFree: z.int(),
  }),
  /** The last one, whatever process saw it; absent before there was any. */
  move: agentMove.optional(),
  /** Agents of the same repository; absent where the agent knows of no such thing. */
  peers: z
    .object({
      /** Of what it was told last; absent before it was. */
      digest: peersRequest.shape.digest.optional(),
      /** Plain bytes of blobs that it had from others, and gave to them, since its start. */
      bytesTaken: z.int().nonnegative(),
      bytesGiven: z.int().nonnegative(),
    })
    .optional(),
  /** Open NFS connections (a mounted client keeps one), and NBD connections. */
  connections: z.object({ nfs: z.int(), nbd: z.int() }),
  disks: z.array(diskStatus),
});

export const controlError = z.object({ code: z.string(), message: z.string(), hint: z.string().optional() });

export { bootProfile };
export type PhaseRequest = z.infer<typeof phaseRequest>;
export type AgentPhase = PhaseRequest["phase"];
export type DiskBus = z.infer<typeof diskBus>;
export type Generation = z.infer<typeof generation>;
export type RelocationProgress = z.infer<typeof relocationProgress>;
export type DiskStatus = z.infer<typeof diskStatus>;
export type AgentMove = z.infer<typeof agentMove>;
export type AgentStatus = z.infer<typeof agentStatus>;
export type ControlError = z.infer<typeof controlError>;
