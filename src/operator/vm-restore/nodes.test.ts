import { expect, test } from "@jest/globals";
import type { NodeReport } from "../../api/node-report.ts";
import { conditionOf } from "../conditions.ts";
import { PODS, VIRTUAL_MACHINES } from "../kinds.ts";
import type { CheckedNode } from "../node-check/nodes-verdict.ts";
import { manifest } from "./testing/backed-up.ts";
import { operatorIn, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const ABLE: NodeReport = {
  ...{ kernel: "6.12.0", nfs: "Present", nfsv3: "Present", mountHelper: "Present" },
  ...{ selinux: "Off", virtUseNfs: "Unknown", serviceNetwork: "Reached" },
};
const node = (name: string, state: CheckedNode["state"]): CheckedNode => ({ name, labels: {}, taints: [], state });
const can = (name: string) => node(name, { is: "Reported", report: ABLE });
const cannot = (name: string) => node(name, { is: "Reported", report: { ...ABLE, mountHelper: "Missing" } });

/** A restore, for some seconds, with what is known of the nodes. */
class Restoring {
  readonly world = new World();
  known: readonly CheckedNode[] | undefined;
  operator: ReturnType<typeof operatorIn> = this.start();

  start(): ReturnType<typeof operatorIn> {
    this.operator = operatorIn(this.world, this.world.cluster, { nodeChecks: { look: () => this.known } });
    return this.operator;
  }

  async go(rounds = 20): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      await this.operator.reconcile(TENANT, "orders-db");
      this.world.step();
      await this.world.clock.advance(1000);
    }
  }

  get machines(): number {
    return this.world.cluster.all(VIRTUAL_MACHINES).length;
  }

  get made(): string[] {
    return this.world.cluster.writes.filter(({ verb }) => verb === "create").map(({ type }) => type.kind);
  }

  get condition() {
    return conditionOf(restoreIn(this.world)?.status?.conditions, "NodesReady");
  }
}

test("where it is known before anything is made that no node can, nothing is made, it is said, and it goes on when one can", async () => {
  const restoring = new Restoring();
  restoring.world.restore();
  restoring.known = [cannot("a"), cannot("b")];
  await restoring.go();
  expect(restoring.made).toEqual(["Job"]);
  const { phase, message, waiting, conditions } = restoreIn(restoring.world)?.status ?? {};
  expect(phase).toBe("Pending");
  expect(message).toContain("dnf install nfs-utils");
  expect(message).toBe(restoring.condition?.message);
  expect(waiting).toMatchObject({ condition: "TargetReady", reason: "NfsClientMissing" });
  expect(conditionOf(conditions, "NodesReady")).toMatchObject({ status: "False", reason: "NfsClientMissing" });
  // Reports are being renewed, by an operator that was just started.
  restoring.known = undefined;
  restoring.start();
  await restoring.go(5);
  restoring.known = [node("a", { is: "Pending" }), cannot("b")];
  await restoring.go(15);
  expect(restoring.made).toEqual(["Job"]);
  restoring.known = [can("a"), cannot("b")];
  await restoring.go(40);
  expect(restoring.machines).toBe(1);
  expect(conditionOf(restoreIn(restoring.world)?.status?.conditions, "TargetReady")?.status).toBe("True");
});

test("what stands in the way besides is told first", async () => {
  const restoring = new Restoring();
  restoring.world.restore({ relocation: { target: { storageClassName: "gone" } } });
  restoring.known = [cannot("a")];
  await restoring.go();
  expect(restoreIn(restoring.world)?.status?.waiting?.reason).toBe("StorageClassNotFound");
  expect(restoring.condition?.status).toBe("False");
});

const TAINTED = { taints: [{ key: "example.org/machines", effect: "NoSchedule" }] };
const inline = (scheduling: object) => {
  const machine = manifest();
  const template = { ...machine.spec.template, spec: { ...machine.spec.template.spec, ...scheduling } };
  const whole = { ...machine, spec: { ...machine.spec, template } };
  return { virtualMachine: { name: "orders-db", manifest: { from: "Inline", template: whole } } };
};

test.each<[string, object, number]>([
  ["a manifest in the spec without a toleration for the only node that can", inline({}), 0],
  ["a manifest in the spec with one", inline({ tolerations: [{ operator: "Exists" }] }), 1],
  ["a manifest in the backup, which nobody has read yet", {}, 1],
])(
  "a node that can counts before the machine is known, unless that is known to keep off it: %s",
  async (_, spec, plans) => {
    const restoring = new Restoring();
    restoring.world.restore(spec);
    restoring.known = [{ ...can("a"), ...TAINTED }, cannot("b")];
    await restoring.go();
    expect(restoring.made.filter((kind) => kind === "StatefulSet")).toHaveLength(plans);
    expect(conditionOf(restoreIn(restoring.world)?.status?.conditions, "TargetReady")?.status).toBe(
      plans === 0 ? "False" : "True",
    );
  },
);

test("where it becomes known later that no node can, everything but the machine is made, it is said, and it goes on when one can", async () => {
  const restoring = new Restoring();
  restoring.world.launchable = false;
  restoring.world.restore();
  restoring.known = [node("a", { is: "Pending" })];
  await restoring.go(8);
  restoring.known = [cannot("a"), cannot("b")];
  restoring.world.launchable = true;
  await restoring.go();
  expect(restoring.machines).toBe(0);
  expect(restoring.condition).toMatchObject({ status: "False", reason: "NfsClientMissing" });
  const { message, waiting } = restoreIn(restoring.world)?.status ?? {};
  expect(message).toContain("dnf install nfs-utils");
  expect(waiting?.condition).toBe("NodesReady");
  expect(
    restoring.world.cluster.all(PODS).map(({ metadata }) => metadata.labels?.["app.kubernetes.io/name"]),
  ).toContain("vmrestore-media-agent");
  // Reports are being renewed, by an operator that was just started.
  restoring.known = undefined;
  restoring.start();
  await restoring.go(5);
  restoring.known = [node("a", { is: "Pending" }), cannot("b")];
  await restoring.go(5);
  expect(restoring.machines).toBe(0);
  restoring.known = [can("a"), cannot("b")];
  await restoring.go();
  expect(restoring.machines).toBe(1);
  expect(restoring.condition).toMatchObject({ status: "True", reason: "SomeNodesUnable" });
  expect(restoring.condition?.message).toContain("b has no mount.nfs");
});

test.each<[string, readonly CheckedNode[] | undefined, string | undefined]>([
  ["nothing is known yet", undefined, undefined],
  ["they are being looked at", [node("a", { is: "Pending" }), cannot("b")], undefined],
  ["they cannot be looked at", [node("a", { is: "Unknown", why: "refused." }), cannot("b")], "Unknown"],
  ["there are none", [], "Unknown"],
  ["all can", [can("a")], "True"],
])("nothing is held back where %s", async (_, known, status) => {
  const restoring = new Restoring();
  restoring.world.restore();
  restoring.known = known;
  await restoring.go();
  expect(restoring.machines).toBe(1);
  expect(restoring.condition?.status).toBe(status);
});

test("a dry run waits for the reports and tells what they say", async () => {
  const restoring = new Restoring();
  restoring.world.restore({ dryRun: true });
  restoring.known = [node("a", { is: "Pending" })];
  await restoring.go(10);
  expect(restoreIn(restoring.world)?.status?.plan).toBeUndefined();
  restoring.known = [cannot("a")];
  await restoring.go(5);
  expect(restoreIn(restoring.world)?.status?.plan?.missing).toMatchObject([{ reason: "NfsClientMissing" }]);
});
