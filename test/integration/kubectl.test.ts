import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { startTestControlPlane, type TestControlPlane } from "../../src/lab/testing/test-control-plane.ts";

// The kubectl on PATH, whichever it is: Debian's of 2020 or a new one. They speak different dialects.

const ROOT = join(import.meta.dirname, "../..");
const RESTORE = join(ROOT, "examples/vmrestore.yaml");

let plane: TestControlPlane;

beforeAll(async () => {
  plane = await startTestControlPlane();
  expect(await kubectl("apply", "-f", join(ROOT, "crds"))).toContain("vmrestores.vmrestore.io created");
  await kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/vmrestores.vmrestore.io");
});

afterAll(async () => {
  await plane.close();
});

/** What it printed; what it complained of too, where it failed. */
function kubectl(...args: string[]): Promise<string> {
  const env = { ...process.env, KUBECONFIG: plane.kubeconfigPath, HOME: plane.folder };
  return new Promise((resolve) => {
    execFile("kubectl", args, { env, timeout: 60_000 }, (_, output, complaint) => resolve(output + complaint));
  });
}

test("objects are applied, shown, described, changed and deleted", async () => {
  expect(await kubectl("apply", "-f", RESTORE)).toBe("vmrestore.vmrestore.io/orders-db created\n");
  expect(await kubectl("apply", "-f", RESTORE)).toBe("vmrestore.vmrestore.io/orders-db unchanged\n");
  expect(await kubectl("apply", "-f", RESTORE, "--server-side", "--force-conflicts")).toContain("serverside-applied");
  expect(await kubectl("get", "vmr")).toMatch(
    /^NAME +PHASE +VM +PROGRESS +READY IN +AGE\norders-db +orders-db +\d+s\n$/,
  );
  expect(await kubectl("get", "vmrestore", "orders-db", "-o", "yaml")).toContain("kind: VMRestore\n");
  expect(await kubectl("describe", "vmrestore", "orders-db")).toMatch(/Deletion Policy: +Retain/);
  const patch = '{"spec":{"relocation":{"cutover":{"when":"Manual"}}}}';
  expect(await kubectl("patch", "vmr", "orders-db", "--type", "merge", "-p", patch)).toContain("patched");
  expect(await kubectl("patch", "vmr", "orders-db", "--type", "merge", "-p", '{"spec":{"launch":1}}')).toMatch(
    /invalid/,
  );
  expect(await kubectl("get", "vmr", "orders-db", "-o", "jsonpath={.spec.relocation.cutover.when}")).toBe("Manual");
  expect(await kubectl("delete", "vmrestore", "orders-db", "--timeout=30s")).toContain("deleted");
  expect(await kubectl("get", "vmr", "orders-db")).toMatch(/NotFound/);
});

test("fields are explained, and unknown ones are refused", async () => {
  expect(await kubectl("explain", "vmrestore.spec.relocation.begin")).toMatch(/When copying begins/);
  const file = join(plane.folder, "bad.yaml");
  const spec = "{source: {repository: {name: x}, snapshot: {latest: {}}}, virtualMachine: {name: a}, nonsense: 1}";
  await writeFile(file, `apiVersion: vmrestore.io/v1alpha1\nkind: VMRestore\nmetadata: {name: bad}\nspec: ${spec}\n`);
  expect(await kubectl("apply", "-f", file)).toMatch(/unknown field.*nonsense/);
});

test("Secrets and the like are made by command, and listed with their columns", async () => {
  expect(await kubectl("create", "secret", "generic", "pw", "--from-literal=password=x")).toContain(
    "secret/pw created",
  );
  expect(await kubectl("get", "secret", "pw", "-o", "jsonpath={.data.password}")).toBe("eA==");
  expect(await kubectl("get", "secret", "pw")).toMatch(/^NAME +TYPE +DATA +AGE\npw +Opaque +1 +\d+s\n$/);
  expect(await kubectl("create", "namespace", "n1")).toContain("namespace/n1 created");
  expect(await kubectl("get", "namespaces")).toMatch(/n1 +Active/);
  expect(await kubectl("auth", "can-i", "create", "vmrestores")).toBe("yes\n");
});
