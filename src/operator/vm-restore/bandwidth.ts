import { parseQuantity } from "../../api/quantity.ts";
import { goesToTarget } from "./cutover-state.ts";
import type { Observed } from "./observed.ts";
import { acts, type Outcome, passed } from "./step.ts";

/** The limit of the copy goes to the agent, where the Job reads it: so it can be changed while the Job runs. */
export function tellLimit(observed: Observed): Outcome {
  const { agent, spec } = observed;
  const { bandwidthLimit } = spec.relocation;
  const wanted = bandwidthLimit === undefined ? undefined : parseQuantity(bandwidthLimit);
  if (!goesToTarget(observed) || agent.status === undefined || agent.status.relocationLimit === wanted) return passed();
  const what = wanted === undefined ? "no limit" : `limit ${wanted}`;
  return acts([{ do: "agent", what, call: (control) => control.setRelocationLimit(wanted) }]);
}
