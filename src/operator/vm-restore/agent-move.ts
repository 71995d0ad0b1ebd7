import type { AgentMove } from "../../api/agent-control.ts";
import { formatDuration, parseDuration } from "../../api/duration.ts";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";

type LastMove = NonNullable<NonNullable<VMRestoreStatus["mediaAgent"]>["lastMove"]>;

/**
 * What the status says of the agent's last move. The pause is from the moment the old agent stopped answering to the new one's first
 * answer, by the clocks of two nodes: it is off by as much as they differ, and never said to be below zero.
 */
export function lastMoveOf({ from, to, stopped, started, answered }: AgentMove): LastMove {
  return {
    from,
    to,
    at: new Date(stopped ?? started).toISOString(),
    ...(stopped === undefined || answered === undefined
      ? {}
      : { pause: formatDuration(Math.max(0, answered - stopped)) }),
  };
}

/** A move that a status tells for the first time: once the guest has its answers again. Undefined where there is none. */
export function newMove(
  before: VMRestoreStatus | undefined,
  after: VMRestoreStatus,
): { readonly message: string; readonly pauseMs: number } | undefined {
  const move = after.mediaAgent?.lastMove;
  const known = before?.mediaAgent?.lastMove;
  if (move?.pause === undefined || (known?.at === move.at && known.pause === move.pause)) return undefined;
  const message = `The media agent moved from node ${move.from} to node ${move.to}. The machine got no answer for ${move.pause}.`;
  return { message, pauseMs: parseDuration(move.pause) };
}
