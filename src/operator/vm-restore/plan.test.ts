import { expect, test } from "@jest/globals";
import { agentConfig } from "../../api/agent-config.ts";
import { SECRETS } from "../kinds.ts";
import { phaseIs, play } from "./testing/run.ts";
import { World } from "./testing/world.ts";

/** The configuration that the media agent of a restore gets. */
async function configOf(mediaAgent: object) {
  const world = new World();
  world.restore({ mediaAgent });
  await play(world, phaseIs("Staging"));
  const [config] = world.cluster.all(SECRETS).flatMap(({ data }) => data?.["config.json"] ?? []);
  return agentConfig.parse(JSON.parse(Buffer.from(config ?? "", "base64").toString("utf8")));
}

test("the addresses that may mount come from the spec; everybody may unless it names some", async () => {
  const allowedClients = ["10.0.0.0/8", "fd00::7"];
  expect((await configOf({ allowedClients })).nfsClients).toEqual(allowedClients);
  expect((await configOf({})).nfsClients).toBeUndefined();
});
