import { expect, test } from "@jest/globals";
import { agentConfig } from "../../api/agent-config.ts";
import { vmRestoreSpec } from "../../api/vm-restore.ts";
import { SECRETS } from "../kinds.ts";
import { sourcesOf } from "./sources.ts";
import { fullManifest } from "./testing/full-manifest.ts";
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

test("an inline manifest tells the inspection which volumes are disks, and which claims they were on", () => {
  const manifest = { from: "Inline", template: fullManifest() };
  const source = { repository: { name: "nightly" }, snapshot: { latest: { host: "volsync", path: "/data" } } };
  const spec = vmRestoreSpec.parse({ source, virtualMachine: { name: "orders-db", manifest } });
  expect(sourcesOf(spec, "default")[0]?.request).toEqual({
    snapshot: { latest: { host: "volsync", path: "/data" } },
    volumes: [
      { name: "root", claim: "orders-db-root" },
      { name: "data", claim: "orders-db-data" },
    ],
  });
});

test("the status tells in which file of the snapshot each disk was found", async () => {
  const world = new World();
  world.restore();
  const restore = await play(world, phaseIs("Completed"));
  expect(restore?.status?.disks).toMatchObject([{ name: "root", path: "/disks/root.img" }]);
});
