import { expect, test } from "@jest/globals";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { type Action, type AgentControl, create, perform, remove, removeIfThere } from "./actions.ts";
import { JOBS } from "./kinds.ts";
import { LeadershipLostError } from "./runtime/leadership.ts";
import { FakeCluster } from "./runtime/testing/fake-cluster.ts";

test("a replica that leads no more tells the agent nothing", async () => {
  const cluster = new FakeCluster(new ManualClock());
  const told: string[] = [];
  const agent = {} as AgentControl;
  const tell = (what: string): Action => ({ do: "agent", what, call: async () => void told.push(what) });
  let leads = true;
  const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "a", namespace: "n" } };
  cluster.onWrite = (_, moment) => {
    if (moment === "after") leads = false;
  };
  const mayAct = () => {
    if (!leads) throw new LeadershipLostError();
  };
  const all = [tell("phase Ready"), create(JOBS, job), tell("seal root")];
  await expect(perform(all, cluster, agent, mayAct)).rejects.toBeInstanceOf(LeadershipLostError);
  expect(told).toEqual(["phase Ready"]);
});

test("what is not there, or is being deleted already, is not deleted", () => {
  const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "a", namespace: "n" } };
  const going = { ...job, metadata: { ...job.metadata, deletionTimestamp: "2026-11-23T09:00:00Z" } };
  expect([undefined, job, going].map((object) => removeIfThere(JOBS, object))).toEqual([[], [remove(JOBS, job)], []]);
});
