import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, test } from "@jest/globals";
import { readNode } from "./read-node.ts";

const KERNEL = "6.1.0-18-amd64";
const folders: string[] = [];

afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});

/** A node made of files. */
async function nodeOf(files: Readonly<Record<string, string>>, links: Readonly<Record<string, string>> = {}) {
  const folder = await mkdtemp(join(tmpdir(), "vmrestore-node-"));
  folders.push(folder);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  for (const [path, target] of Object.entries(links)) await symlink(target, join(folder, path));
  const at = (path: string) => join(folder, path);
  const places = { bin: at("bin"), sbin: at("sbin"), modules: at("lib/modules"), sysfs: at("sys/fs") };
  return readNode({ ...places, proc: at("proc") });
}

const PROC = { "proc/sys/kernel/osrelease": `${KERNEL}\n`, "proc/filesystems": "nodev\tsysfs\n\text4\n" };
const DEP = `lib/modules/${KERNEL}/modules.dep`;
const BUILTIN = `lib/modules/${KERNEL}/modules.builtin`;
const BOTH = "kernel/fs/nfs/nfs.ko.xz: kernel/net/sunrpc.ko.xz\nkernel/fs/nfs/nfsv3.ko.xz: kernel/fs/nfs/nfs.ko.xz\n";

test("a node with everything", async () => {
  const files = { ...PROC, [DEP]: BOTH, [BUILTIN]: "", "sbin/mount.nfs": "", "bin/mount": "", "sys/fs/cgroup/x": "" };
  expect(await nodeOf(files)).toEqual({
    kernel: KERNEL,
    nfs: "Present",
    nfsv3: "Present",
    mountHelper: "Present",
    selinux: "Off",
    virtUseNfs: "Unknown",
  });
});

test("a node without the NFS client, whose kernel could have it for version 4 only", async () => {
  const files = {
    ...PROC,
    [DEP]: "kernel/fs/nfs/nfs.ko:\nkernel/fs/nfs/nfsv4.ko:\n",
    [BUILTIN]: "",
    "bin/mount": "",
    "sbin/fsck": "",
  };
  expect(await nodeOf(files)).toMatchObject({ nfs: "Present", nfsv3: "Missing", mountHelper: "Missing" });
});

test("a client that is built in, and one that is loaded already", async () => {
  const builtin = { ...PROC, [DEP]: "", [BUILTIN]: "kernel/fs/nfs/nfs.ko\nkernel/fs/nfs/nfsv3.ko\n" };
  expect(await nodeOf(builtin)).toMatchObject({ nfs: "Present", nfsv3: "Present" });
  const loaded = { ...PROC, "proc/filesystems": "nodev\tnfs4\nnodev\tnfs\n" };
  expect(await nodeOf(loaded)).toMatchObject({ nfs: "Present", nfsv3: "Unknown" });
  const nfsd = { ...PROC, "proc/filesystems": "nodev\tnfsd\n", [DEP]: "kernel/fs/nfsd/nfsd.ko:\n", [BUILTIN]: "" };
  expect(await nodeOf(nfsd)).toMatchObject({ nfs: "Missing" });
});

test("what is not seen is unknown, not missing", async () => {
  expect(await nodeOf({})).toEqual({
    kernel: "",
    nfs: "Unknown",
    nfsv3: "Unknown",
    mountHelper: "Unknown",
    selinux: "Unknown",
    virtUseNfs: "Unknown",
  });
  // One of the two lists is no proof.
  expect(await nodeOf({ ...PROC, [DEP]: "" })).toMatchObject({ nfs: "Unknown", nfsv3: "Unknown" });
});

test("a node that mounts nothing itself: its kubelet is in a container with programs of its own", async () => {
  expect(await nodeOf({ ...PROC, "bin/init": "", "sbin/init": "" })).toMatchObject({ mountHelper: "Unknown" });
});

test("mount.nfs may be a link to where nobody looks from here", async () => {
  const node = await nodeOf({ "sbin/x": "", "bin/mount": "" }, { "sbin/mount.nfs": "/nowhere/mount.nfs" });
  expect(node.mountHelper).toBe("Present");
});

// Without --selinux, for example, k3s has its runtime label nothing: what runs there is as free as the runtime itself.
test.each([
  ["system_u:system_r:spc_t:s0\0", "Enforcing"],
  ["system_u:system_r:spc_t:s0:c1,c2\n", "Enforcing"],
  ["system_u:system_r:container_runtime_t:s0\0", "Unlabelled"],
  ["", "Enforcing"],
  [undefined, "Enforcing"],
] as const)("SELinux that enforces, over a container with the label %j", async (label, selinux) => {
  const files = { "sys/fs/selinux/enforce": "1", "sys/fs/selinux/booleans/virt_use_nfs": "0 0" };
  const own = label === undefined ? {} : { "proc/self/attr/current": label };
  expect(await nodeOf({ ...files, ...own })).toMatchObject({ selinux, virtUseNfs: "Off" });
});

test.each([
  ["1", "0 0", { selinux: "Enforcing", virtUseNfs: "Off" }],
  ["1", "1 0", { selinux: "Enforcing", virtUseNfs: "On" }],
  ["0", "0 1", { selinux: "Permissive", virtUseNfs: "Off" }],
  ["1", "", { selinux: "Enforcing", virtUseNfs: "Unknown" }],
  ["2", "1 1", { selinux: "Unknown", virtUseNfs: "On" }],
] as const)("SELinux: enforce %s, virt_use_nfs %s", async (enforce, boolean, expected) => {
  const files = { "sys/fs/selinux/enforce": enforce, "sys/fs/selinux/booleans/virt_use_nfs": boolean };
  expect(await nodeOf(files)).toMatchObject(expected);
});
