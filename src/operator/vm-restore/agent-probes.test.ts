import { expect, test } from "@jest/globals";
import { STATEFUL_SETS } from "../kinds.ts";
import { phaseIs, play } from "./testing/run.ts";
import { World } from "./testing/world.ts";

test("an agent that waits for its repository is not killed for it: only one that does not answer is", async () => {
  const world = new World();
  world.restore();
  await play(world, phaseIs("Launching"));
  const probe = (path: string) => ({ httpGet: { path } });
  const probes = {
    startupProbe: probe("/healthz"),
    livenessProbe: probe("/healthz"),
    readinessProbe: probe("/readyz"),
  };
  expect(world.cluster.all(STATEFUL_SETS)).toMatchObject([{ spec: { template: { spec: { containers: [probes] } } } }]);
});
