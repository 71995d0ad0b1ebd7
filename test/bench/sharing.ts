import { setTimeout as delay } from "node:timers/promises";
import type { AgentControlClient } from "../../src/api/agent-control-client.ts";
import { peerFor, peersDigest } from "../../src/api/peers.ts";

interface Member {
  /** Of its restore; its address does for that. */
  readonly address: string;
  /** PEM: its authority and its own private key. */
  readonly ca: string;
  readonly key: string;
  readonly control: Pick<AgentControlClient, "setPeers">;
}

/** Agents that share blobs, each told of the others as the operator does it: as soon as it can be told, and whenever they are others. */
export class SharingGroup {
  readonly #members = new Set<Member>();

  join(member: Member): void {
    this.#members.add(member);
    for (const each of this.#members) void this.#tell(each);
  }

  leave(address: string): void {
    for (const member of this.#members) if (member.address === address) this.#members.delete(member);
    for (const each of this.#members) void this.#tell(each);
  }

  async #tell(member: Member): Promise<void> {
    while (this.#members.has(member)) {
      const others = [...this.#members].filter((other) => other !== member);
      const peers = others.map(({ address, ca, key }) =>
        peerFor(member.address, { id: address, host: address, ca, key }),
      );
      const isTold = await member.control.setPeers({ digest: peersDigest(peers), peers }).then(
        () => true,
        () => false,
      );
      if (isTold) return;
      await delay(20);
    }
  }
}
