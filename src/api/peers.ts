import { createHash, createHmac, hkdfSync } from "node:crypto";
import * as z from "zod";
import { AGENT_PORTS } from "./agent-config.ts";

// What media agents that read one repository have to know of one another, so that each blob is fetched from there about once.

/** Members of one group, the agent that is told of the others among them. */
export const PEERS_LIMIT = 8;

/** Another agent of the group, as one of them is told of it. */
const peer = z.strictObject({
  /** uid of its VMRestore. */
  id: z.string().min(1).max(64),
  /** IP address or name that its certificate bears. */
  host: z.string().min(1).max(253),
  port: z.int().min(1).max(65_535),
  /** PEM: the authority of its certificate. */
  ca: z.string().min(1).max(4096),
  /** What it knows the agent that is told by, see {@link peerToken}: never log it. */
  token: z.string().min(1).max(128),
});

/** All of them each time; none: the agent is alone. */
export const peersRequest = z.strictObject({
  /** See {@link peersDigest}; the agent's status repeats it. */
  digest: z.string().max(64),
  peers: z.array(peer).max(PEERS_LIMIT - 1),
});

export type Peer = z.infer<typeof peer>;
export type PeersRequest = z.infer<typeof peersRequest>;

/**
 * What `asker` shows to be known by another agent: derived from that one's own private key, which it has and the operator has. So nothing
 * more is stored, it is another one for each pair, and none can be worked out from others.
 *
 * @param key PEM: private key of the agent that is asked
 * @param asker uid of the asking agent's VMRestore
 */
export function peerToken(key: string, asker: string): string {
  const secret = Buffer.from(hkdfSync("sha256", key, "", "vmrestore.io peer tokens", 32));
  return createHmac("sha256", secret).update(asker).digest("base64url");
}

/** An agent as `asker` is told of it. @param key PEM: the agent's own private key */
export function peerFor(asker: string, { id, host, ca, key }: Omit<Peer, "port" | "token"> & { key: string }): Peer {
  return { id, host, port: AGENT_PORTS.peers, ca, token: peerToken(key, asker) };
}

/** Tells one list from another. Tokens are left out of it: they change only with the certificates. */
export function peersDigest(peers: readonly Peer[]): string {
  const told = peers.map(({ id, host, port, ca }) => [id, host, port, ca]);
  return createHash("sha256").update(JSON.stringify(told)).digest("hex");
}
