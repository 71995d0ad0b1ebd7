import { peersDigest } from "../../api/peers.ts";
import type { Observed } from "./observed.ts";
import { acts, type Outcome, passed } from "./step.ts";

/**
 * The agent is told of the others that it shares with, before it begins to read and whenever they are others. Nothing waits for that: an agent
 * that cannot be told goes on alone, and is told again a little later.
 */
export function tellPeers({ agent, peers }: Observed): Outcome {
  const known = agent.status?.peers;
  if (peers === undefined || known === undefined) return passed();
  const digest = peersDigest(peers);
  if (known.digest === digest || agent.peersTold === digest) return passed();
  if (known.digest === undefined && peers.length === 0) return passed();
  const what = peers.length === 0 ? "it is alone" : `sharing with ${peers.map(({ id }) => id).join(", ")}`;
  return acts([{ do: "agent", what, call: (control) => control.setPeers({ digest, peers: [...peers] }) }]);
}
