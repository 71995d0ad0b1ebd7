import { hash } from "node:crypto";

/**
 * The members of a group in the order in which they are responsible for a pack, by rendezvous hashing: everybody works out the same with
 * nobody asked, each is first for an equal share of packs, and of those that one is first for only those move when it comes or goes. Pure.
 *
 * @param members their ids, each once, in any order
 */
export function responsible(members: readonly string[], pack: string): string[] {
  return members
    .map((id) => ({ id, weight: hash("sha256", `${id}/${pack}`) }))
    .sort((a, b) => (a.weight > b.weight ? -1 : 1))
    .map(({ id }) => id);
}
