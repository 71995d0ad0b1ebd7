import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { backupRepositorySpec } from "../../src/api/backup-repository.ts";
import { vmRestoreSpec } from "../../src/api/vm-restore.ts";
import { systemClock } from "../../src/base/clock.ts";
import { startTestControlPlane } from "../../src/lab/testing/test-control-plane.ts";
import { BACKUP_REPOSITORIES, VM_RESTORES } from "../../src/operator/kinds.ts";
import { type Manifest, type ResourceType, resourcePath } from "../../src/operator/runtime/objects.ts";
import { RestCluster } from "../../src/operator/runtime/rest-cluster.ts";
import { Transport } from "../../src/operator/runtime/transport.ts";

// What a schema alone cannot say stands twice: as refinements, which the operator reads with, and as CEL rules, which a real API server
// evaluates. Where one is at hand, both are asked, and have to say the same.

const ROOT = join(import.meta.dirname, "../..");
const NAMESPACE = "default";
const DEFINITIONS: ResourceType = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};

const LATEST = { latest: {} };
const RESTORE = { source: { repository: { name: "nightly" }, snapshot: LATEST }, virtualMachine: { name: "web" } };
const REPOSITORY = { local: { claimName: "backups" }, credentialsSecretRef: { name: "password" } };
const disk = { name: "root", path: "/root.img", repository: { name: "other" } };

const WRONG_RESTORES: readonly (readonly [change: object, message: string])[] = [
  [{ source: { ...RESTORE.source, snapshot: {} } }, "set exactly one of `id` and `latest`"],
  [{ source: { ...RESTORE.source, snapshot: { id: "4bba301e", ...LATEST } } }, "set exactly one of `id` and `latest`"],
  [{ source: { ...RESTORE.source, snapshot: { id: "4bba301e" }, disks: [disk] } }, "needs its own `snapshot`"],
  [{ virtualMachine: { name: "web", manifest: { from: "Inline" } } }, "`template` belongs to `from: Inline`"],
  [{ virtualMachine: { name: "web", manifest: { template: {} } } }, "`template` belongs to `from: Inline`"],
  [{ virtualMachine: { name: "web", networks: "Map" } }, "`networkMap` belongs to `networks: Map`"],
  [{ relocation: { begin: "At" } }, "`beginAt` belongs to `begin: At`"],
  [{ relocation: { beginAt: "2026-01-01T00:00:00Z" } }, "`beginAt` belongs to `begin: At`"],
  [{ relocation: { cutover: { when: "At" } } }, "`at` belongs to `when: At`"],
  [{ relocation: { cutover: { at: "2026-01-01T00:00:00Z" } } }, "`at` belongs to `when: At`"],
  [{ relocation: { trial: { onExpiry: "RollBack" } } }, "a trial that ends with RollBack needs a `period`"],
  [{ relocation: { bandwidthLimit: "0Mi" } }, "must be above 0"],
];
const WRONG_REPOSITORIES: readonly (readonly [change: object, message: string])[] = [
  [{ local: undefined }, "set exactly one of `local`, `rest` and `s3`"],
  [{ rest: { url: "https://backups.example.org/web" } }, "set exactly one of `local`, `rest` and `s3`"],
];

test.each(WRONG_RESTORES)("a VMRestore with %j is read as wrong", (change, message) => {
  expect(vmRestoreSpec.safeParse(RESTORE).success).toBe(true);
  expect(vmRestoreSpec.safeParse({ ...RESTORE, ...change }).error?.message).toContain(message);
});

test.each(WRONG_REPOSITORIES)("a BackupRepository with %j is read as wrong", (change, message) => {
  expect(backupRepositorySpec.safeParse(REPOSITORY).success).toBe(true);
  expect(backupRepositorySpec.safeParse({ ...REPOSITORY, ...change }).error?.message).toContain(message);
});

if ((process.env.KUBEBUILDER_ASSETS ?? "") !== "") {
  test("a real API server takes the definitions, and refuses the same in the same words, and what may not be changed", async () => {
    const plane = await startTestControlPlane();
    const transport = new Transport(plane.config);
    const cluster = new RestCluster(transport, new AbortController().signal, "test");
    const answer = (asked: Promise<unknown>) => asked.then(() => "taken", String);
    const object = ({ apiVersion, kind }: ResourceType, name: string, spec: object): Manifest => ({
      ...{ apiVersion, kind, metadata: { name, namespace: NAMESPACE }, spec },
    });
    try {
      for (const file of await readdir(join(ROOT, "crds")))
        await cluster.create(DEFINITIONS, parse(await readFile(join(ROOT, "crds", file), "utf8")) as Manifest);
      const good = object(VM_RESTORES, "web", RESTORE);
      const end = systemClock.monotonic() + 30_000;
      while ((await answer(cluster.create(VM_RESTORES, good))) !== "taken") {
        if (systemClock.monotonic() > end) throw new Error(await answer(cluster.create(VM_RESTORES, good)));
        await systemClock.sleep(100);
      }
      for (const [change, message] of WRONG_RESTORES) {
        const wrong = object(VM_RESTORES, "wrong", { ...RESTORE, ...change });
        expect([change, await answer(cluster.create(VM_RESTORES, wrong))]).toEqual([
          change,
          expect.stringContaining(message),
        ]);
      }
      for (const [change, message] of WRONG_REPOSITORIES) {
        const wrong = object(BACKUP_REPOSITORIES, "wrong", { ...REPOSITORY, ...change });
        expect(await answer(cluster.create(BACKUP_REPOSITORIES, wrong))).toContain(message);
      }

      const patch = (body: object, subresource = "") =>
        answer(
          transport.request({
            method: "PATCH",
            path: `${resourcePath(VM_RESTORES, NAMESPACE, "web")}${subresource}`,
            contentType: "application/merge-patch+json",
            body,
          }),
        );
      const host = (name: string) => ({ spec: { source: { snapshot: { latest: { host: name } } } } });
      expect(await patch(host("web-1"))).toBe("taken");
      const mediaAgent = { name: "agent", address: "192.0.2.1" };
      expect(await patch({ status: { phase: "Preparing", mediaAgent } }, "/status")).toBe("taken");
      for (const [change, field] of [
        [host("web-2"), "spec.source"],
        [{ spec: { virtualMachine: { name: "other" } } }, "spec.virtualMachine.name"],
        [{ spec: { mediaAgent: { nodeSelector: { disk: "ssd" } } } }, "spec.mediaAgent"],
        [{ spec: { replace: { confirmUid: "01234567-89ab-cdef-0123-456789abcdef" } } }, "spec.replace"],
        [{ spec: { dryRun: true } }, "spec.dryRun"],
      ] as const) {
        expect(await patch(change)).toContain(`${field} cannot be`);
      }
      const firmware = { spec: { virtualMachine: { macAddresses: "Regenerate" } } };
      expect(await patch(firmware)).toBe("taken");
      const made = { type: "VirtualMachineCreated", status: "True", reason: "Created", message: "it is made" };
      const conditions = [{ ...made, lastTransitionTime: "2026-01-01T00:00:00Z" }];
      expect(await patch({ status: { conditions } }, "/status")).toBe("taken");
      expect(await patch({ spec: { virtualMachine: { macAddresses: "Keep" } } })).toContain(
        "spec.virtualMachine cannot be changed",
      );
      // What steers a copy may be changed at any time.
      expect(await patch({ spec: { relocation: { bandwidthLimit: "10Mi", paused: true } } })).toBe("taken");
    } finally {
      transport.close();
      await plane.close();
    }
  }, 120_000);
}
