import * as z from "zod";
import { RepositoryError } from "./errors.ts";

const ID = /^[0-9a-f]{64}$/;
/** `restic backup --files-from` names each file of its list among the paths: no more of them fit into what is read of a snapshot. */
const LIST_LIMIT = 65_536;

/** A snapshot file as restic writes it; unknown fields are kept out. */
const snapshotFile = z.object({
  time: z.string().max(64),
  tree: z.string().regex(ID),
  parent: z.string().regex(ID).optional(),
  paths: z.array(z.string().max(4096)).max(LIST_LIMIT).default([]),
  hostname: z.string().max(256).default(""),
  username: z.string().max(256).optional(),
  tags: z.array(z.string().max(256)).max(LIST_LIMIT).nullish(),
  original: z.string().regex(ID).optional(),
});

/** One backup in the repository. */
export interface Snapshot {
  /** 64 hex digits. */
  readonly id: string;
  /** Milliseconds since the epoch; restic's own nanoseconds are in `timeText`. */
  readonly time: number;
  readonly timeText: string;
  readonly tree: string;
  readonly host: string;
  readonly paths: readonly string[];
  readonly tags: readonly string[];
  /** The snapshot that this one was made from, where it is a changed copy or a pin. */
  readonly original?: string | undefined;
}

/** Which snapshot is meant: the latest that fits everything given. */
export interface SnapshotSelector {
  readonly latest: {
    readonly host?: string | undefined;
    /** Every one of them must be on the snapshot. */
    readonly tags?: readonly string[] | undefined;
    /** One of the paths that were backed up. */
    readonly path?: string | undefined;
    /** ISO 8601; only snapshots made before it. */
    readonly before?: string | undefined;
  };
}

/** Host names that pins carry; they never count as somebody's backup. */
export const PIN_HOST_PREFIX = "vmrestore-pin-";

export function toSnapshot(id: string, content: unknown): Snapshot {
  const parsed = snapshotFile.safeParse(content);
  const time = parsed.success ? Date.parse(parsed.data.time) : Number.NaN;
  if (!parsed.success || Number.isNaN(time)) {
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `snapshots/${id} is not a snapshot of restic`);
  }
  const { data } = parsed;
  return {
    id,
    time,
    timeText: data.time,
    tree: data.tree,
    host: data.hostname,
    paths: data.paths,
    tags: data.tags ?? [],
    original: data.original,
  };
}

/**
 * The snapshot that the selector means.
 *
 * @throws RepositoryError SNAPSHOT_NOT_FOUND
 */
export function selectSnapshot(snapshots: readonly Snapshot[], selector: SnapshotSelector): Snapshot {
  const { host, tags = [], path, before } = selector.latest;
  const limit = before === undefined ? Number.POSITIVE_INFINITY : Date.parse(before);
  const backups = snapshots.filter((snapshot) => !snapshot.host.startsWith(PIN_HOST_PREFIX));
  const fitting = backups.filter(
    (snapshot) =>
      (host === undefined || snapshot.host === host) &&
      (path === undefined || snapshot.paths.includes(path)) &&
      tags.every((tag) => snapshot.tags.includes(tag)) &&
      snapshot.time < limit,
  );
  const latest = fitting.reduce<Snapshot | undefined>(
    (best, snapshot) => (best === undefined || isLater(snapshot, best) ? snapshot : best),
    undefined,
  );
  if (latest !== undefined) return latest;
  const hosts = [...new Set(backups.map((snapshot) => snapshot.host))].slice(0, 10).join(", ");
  throw new RepositoryError("SNAPSHOT_NOT_FOUND", `none of the ${backups.length} snapshots fits the selection`, {
    hint: backups.length === 0 ? "The repository holds no snapshot yet." : `There are snapshots of: ${hosts}.`,
  });
}

/**
 * The one id that begins so.
 *
 * @throws RepositoryError SNAPSHOT_NOT_FOUND or SNAPSHOT_AMBIGUOUS
 */
export function chooseId(ids: readonly string[], beginning: string): string {
  const fitting = ids.filter((id) => id.startsWith(beginning));
  const [found] = fitting;
  if (beginning === "" || found === undefined) {
    throw new RepositoryError("SNAPSHOT_NOT_FOUND", `there is no snapshot ${beginning}`, {
      hint: "`restic snapshots` lists them; the first eight digits of an id are enough.",
    });
  }
  if (fitting.length > 1) {
    throw new RepositoryError("SNAPSHOT_AMBIGUOUS", `${fitting.length} snapshots begin with ${beginning}`, {
      hint: "Give more digits.",
    });
  }
  return found;
}

/** By time; restic's nanoseconds decide between two of one millisecond, then the id, so that the choice is stable. */
function isLater(a: Snapshot, b: Snapshot): boolean {
  if (a.time !== b.time) return a.time > b.time;
  return a.timeText === b.timeText ? a.id > b.id : a.timeText > b.timeText;
}
