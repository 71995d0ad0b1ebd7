import { PEERS_LIMIT } from "../../api/peers.ts";

/** One restore of a namespace, as far as sharing goes. */
export interface Sharer {
  readonly uid: string;
  /** Milliseconds since the epoch. */
  readonly created: number;
  /** uids of the BackupRepositories that it reads, in order. */
  readonly repositories: readonly string[];
  /** Of the machine's disks; empty while that is not known. */
  readonly snapshot: string;
  /** Its agent is done, or about to be. */
  readonly isOver: boolean;
}

/**
 * uids of the others whose agents share blobs with this restore's. They read exactly the same repositories, each of them all of it, so nobody
 * learns what it could not read. Of more than one group has room for, those of one snapshot come together, and otherwise those made one after the
 * other: of each later group one member is another when one leaves. Pure: every member comes to the same group.
 *
 * @param all of one namespace, `uid` among them
 */
export function sharingGroup(uid: string, all: readonly Sharer[]): string[] {
  const own = all.find((sharer) => sharer.uid === uid);
  if (own === undefined || own.isOver || own.repositories.length === 0) return [];
  const key = own.repositories.join();
  const alike = all.filter(({ isOver, repositories }) => !isOver && repositories.join() === key).sort(inOrder);
  const first = Math.floor(alike.indexOf(own) / PEERS_LIMIT) * PEERS_LIMIT;
  return alike.slice(first, first + PEERS_LIMIT).flatMap((sharer) => (sharer === own ? [] : [sharer.uid]));
}

function inOrder(a: Sharer, b: Sharer): number {
  if (a.snapshot !== b.snapshot) return a.snapshot < b.snapshot ? -1 : 1;
  return a.created - b.created || (a.uid < b.uid ? -1 : 1);
}
