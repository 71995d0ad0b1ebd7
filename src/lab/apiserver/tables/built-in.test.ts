import { expect, test } from "@jest/globals";
import type { KubeObject } from "../object.ts";
import { columnsFor } from "./built-in.ts";

const NOW = Date.parse("2026-01-01T00:10:00Z");

/** A row of `kubectl get`, by column. */
function row(group: string, object: object, isWide = false): Record<string, unknown> {
  const given = object as KubeObject;
  const metadata = { name: "a", creationTimestamp: "2026-01-01T00:00:00Z", ...given.metadata };
  const columns = columnsFor(group, String(given.kind)).filter(({ priority }) => isWide || priority === 0);
  return Object.fromEntries(columns.map(({ name, value }) => [name, value({ ...given, metadata }, NOW)]));
}

test("a pod's row tells how many containers are ready, and why not", () => {
  const pod = (status: object, metadata = {}) => ({ kind: "Pod", metadata, spec: { containers: [{}] }, status });
  const running = { phase: "Running", podIP: "127.0.0.2", containerStatuses: [{ ready: true, restartCount: 2 }] };
  expect(row("", pod(running), true)).toEqual({
    Name: "a",
    Ready: "1/1",
    Status: "Running",
    Restarts: "2",
    Age: "10m",
    IP: "127.0.0.2",
    Node: "<none>",
  });
  const ended = (terminated: object) =>
    row("", pod({ phase: "Failed", containerStatuses: [{ state: { terminated } }] }));
  expect(ended({ exitCode: 1, reason: "Error" }).Status).toBe("Error");
  expect(ended({ exitCode: 0 }).Status).toBe("Completed");
  expect(ended({ exitCode: 3 }).Status).toBe("ExitCode:3");
  const waiting = { phase: "Pending", containerStatuses: [{ state: { waiting: { reason: "CrashLoopBackOff" } } }] };
  expect(row("", pod(waiting))).toMatchObject({ Ready: "0/1", Status: "CrashLoopBackOff" });
  expect(row("", pod({ phase: "Running" }, { deletionTimestamp: "x" })).Status).toBe("Terminating");
});

test("claims and volumes tell what they are bound to", () => {
  expect(
    row("", {
      kind: "PersistentVolumeClaim",
      spec: { volumeName: "pv", storageClassName: "fast" },
      status: { phase: "Bound", capacity: { storage: "1Gi" }, accessModes: ["ReadWriteMany"] },
    }),
  ).toEqual({
    Name: "a",
    Status: "Bound",
    Volume: "pv",
    Capacity: "1Gi",
    "Access Modes": "RWX",
    StorageClass: "fast",
    Age: "10m",
  });
  expect(
    row("", {
      kind: "PersistentVolume",
      spec: { claimRef: { namespace: "default", name: "root" }, accessModes: ["ReadWriteOnce", "ReadWriteOncePod"] },
      status: { phase: "Released" },
    }),
  ).toMatchObject({ Status: "Released", Claim: "default/root", "Access Modes": "RWO,RWOP" });
});

test("an event's row is what happened", () => {
  const common = { reason: "Inspecting", type: "Normal" };
  const object = { kind: "VMRestore", name: "orders-db" };
  const expected = {
    "Last Seen": "60s",
    Type: "Normal",
    Reason: "Inspecting",
    Object: "vmrestore/orders-db",
    Message: "The backup is being looked at.",
  };
  const lastTimestamp = "2026-01-01T00:09:00Z";
  const message = "The backup is being looked at.";
  expect(row("", { kind: "Event", ...common, involvedObject: object, message, lastTimestamp })).toEqual(expected);
  const newer = { kind: "Event", ...common, regarding: object, note: message, eventTime: lastTimestamp };
  expect(row("events.k8s.io", newer)).toEqual(expected);
});

test("the other kinds that a restore makes have the columns that people know", () => {
  const done = { succeeded: 1, startTime: "2026-01-01T00:00:00Z", completionTime: "2026-01-01T00:00:07Z" };
  const conditions = [{ type: "Complete", status: "True" }];
  expect(row("batch", { kind: "Job", status: { ...done, conditions } })).toMatchObject({
    Status: "Complete",
    Completions: "1/1",
    Duration: "7s",
  });
  expect(row("apps", { kind: "StatefulSet", spec: { replicas: 1 }, status: {} }).Ready).toBe("0/1");
  expect(row("", { kind: "Secret", type: "Opaque", data: { a: "", b: "" } })).toMatchObject({
    Type: "Opaque",
    Data: 2,
  });
  const ports = [{ port: 2049 }, { port: 53, protocol: "UDP" }];
  expect(row("", { kind: "Service", spec: { type: "ClusterIP", clusterIP: "127.1.0.1", ports } })).toMatchObject({
    "Cluster-IP": "127.1.0.1",
    "Port(s)": "2049/TCP,53/UDP",
  });
  const annotations = { "storageclass.kubernetes.io/is-default-class": "true" };
  expect(row("storage.k8s.io", { kind: "StorageClass", metadata: { annotations }, provisioner: "p" })).toMatchObject({
    Name: "a (default)",
    Provisioner: "p",
  });
  expect(row("", { kind: "Node", status: { conditions: [{ type: "Ready", status: "True" }] } }).Status).toBe("Ready");
});
