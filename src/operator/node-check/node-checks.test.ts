import { expect, test } from "@jest/globals";
import type { NodeReport } from "../../api/node-report.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { NODES, PODS } from "../kinds.ts";
import { ApiError } from "../runtime/errors.ts";
import { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import { checkPodName } from "./check-pod.ts";
import { NodeChecks } from "./node-checks.ts";

const OWN = "vmrestore-system";
const ABLE: NodeReport = {
  ...{ kernel: "6.12.0", nfs: "Present", nfsv3: "Present", mountHelper: "Present" },
  ...{ selinux: "Off", virtUseNfs: "Unknown", serviceNetwork: "Reached" },
};

class Nodes {
  readonly clock = new ManualClock();
  readonly cluster = new FakeCluster(this.clock);
  checks = this.start();

  start(): NodeChecks {
    const settings = { namespace: OWN, image: "vmrestore" };
    this.checks = new NodeChecks({
      cluster: this.cluster,
      settings,
      clock: this.clock,
      queue: { add: () => undefined },
    });
    return this.checks;
  }

  add(name: string, bootID = "1", labels: Record<string, string> = { "kubevirt.io/schedulable": "true" }): void {
    const status = { conditions: [{ type: "Ready", status: "True" }], nodeInfo: { bootID } };
    this.cluster.put(NODES, { apiVersion: "v1", kind: "Node", metadata: { name, labels }, status });
  }

  end(name: string, message: string | undefined): void {
    this.cluster.change(PODS, OWN, checkPodName(name), (pod) => {
      const terminated = { exitCode: 0, ...(message === undefined ? {} : { message }) };
      pod.status = { phase: "Succeeded", containerStatuses: [{ name: "check", state: { terminated } }] };
    });
  }

  async ask() {
    this.checks.look();
    const again = await this.checks.reconcile();
    return { known: this.checks.look(), again, pods: this.cluster.all(PODS).map(({ metadata }) => metadata.name) };
  }

  made(): number {
    return this.cluster.writes.filter(({ verb }) => verb === "create").length;
  }
}

test("each node that takes machines is looked at once, and the report is kept for a day", async () => {
  const nodes = new Nodes();
  nodes.add("a");
  nodes.add("control", "1", {});
  expect((await nodes.ask()).pods).toEqual([checkPodName("a")]);
  nodes.end("a", JSON.stringify(ABLE));
  expect((await nodes.ask()).known).toMatchObject([{ name: "a", state: { is: "Reported", report: ABLE } }]);
  await nodes.clock.advance(23 * 3_600_000);
  nodes.start();
  expect((await nodes.ask()).known).toMatchObject([{ state: { is: "Reported" } }]);
  expect(nodes.made()).toBe(1);
  await nodes.clock.advance(2 * 3_600_000);
  await nodes.ask();
  await nodes.ask();
  expect(nodes.made()).toBe(2);
});

test("nothing is done while nobody asks", async () => {
  const nodes = new Nodes();
  nodes.add("a");
  expect(await nodes.checks.reconcile()).toBeUndefined();
  expect(nodes.cluster.reads).toEqual([]);
  expect(nodes.made()).toBe(0);
});

test("a node that started anew, and one that cannot, are looked at again", async () => {
  const nodes = new Nodes();
  nodes.add("a");
  await nodes.ask();
  nodes.end("a", JSON.stringify({ ...ABLE, mountHelper: "Missing" }));
  await nodes.ask();
  expect(nodes.made()).toBe(1);
  await nodes.clock.advance(61_000);
  await nodes.ask();
  expect((await nodes.ask()).known).toMatchObject([{ state: { is: "Pending" } }]);
  expect(nodes.made()).toBe(2);
  nodes.end("a", JSON.stringify(ABLE));
  nodes.add("a", "2");
  await nodes.clock.advance(61_000);
  expect((await nodes.ask()).known).toMatchObject([{ state: { is: "Pending" } }]);
  await nodes.ask();
  expect(nodes.made()).toBe(3);
});

test("a hundred nodes are not looked at all at once", async () => {
  const nodes = new Nodes();
  for (let index = 0; index < 100; index++) nodes.add(`n${index}`);
  expect((await nodes.ask()).pods).toHaveLength(8);
  expect((await nodes.ask()).pods).toHaveLength(8);
  for (const { metadata } of nodes.cluster.all(PODS))
    nodes.end(metadata.annotations?.["vmrestore.io/node"] ?? "", JSON.stringify(ABLE));
  expect((await nodes.ask()).pods).toHaveLength(16);
});

test("what a refusal says is told, and it is not tried again at once", async () => {
  const nodes = new Nodes();
  for (const name of ["a", "b"]) nodes.add(name);
  let tried = 0;
  nodes.cluster.onWrite = () => {
    tried++;
    throw new ApiError('violates PodSecurity "restricted:latest"', { status: 403 });
  };
  expect((await nodes.ask()).again).toBe(0);
  const { known } = await nodes.ask();
  expect(known).toMatchObject([{ state: { is: "Unknown" } }, { state: { is: "Unknown" } }]);
  expect(JSON.stringify(known)).toContain("PodSecurity");
  expect(tried).toBe(1);
  nodes.cluster.onWrite = () => undefined;
  await nodes.clock.advance(601_000);
  expect((await nodes.ask()).pods).toHaveLength(2);
});

test("a pod that does not start, or tells nothing, leaves its node unknown", async () => {
  const nodes = new Nodes();
  nodes.add("a");
  nodes.add("b");
  await nodes.ask();
  nodes.cluster.change(PODS, OWN, checkPodName("a"), (pod) => {
    const waiting = { reason: "ErrImagePull", message: "no such image" };
    pod.status = { phase: "Pending", containerStatuses: [{ name: "check", state: { waiting } }] };
  });
  nodes.end("b", '{"kernel": 1}');
  expect((await nodes.ask()).known).toMatchObject([{ state: { is: "Pending" } }, { state: { is: "Unknown" } }]);
  await nodes.clock.advance(121_000);
  const { known } = await nodes.ask();
  expect(known).toMatchObject([{ state: { is: "Unknown" } }, { state: { is: "Unknown" } }]);
  expect(JSON.stringify(known)).toContain("no such image");
  await nodes.clock.advance(600_000);
  await nodes.ask();
  await nodes.ask();
  expect(nodes.made()).toBe(4);
});

test("the pod of a node that is gone goes", async () => {
  const nodes = new Nodes();
  nodes.add("a");
  await nodes.ask();
  nodes.cluster.erase(NODES, undefined, "a");
  await nodes.clock.advance(61_000);
  expect(await nodes.ask()).toMatchObject({ known: [], pods: [] });
});
