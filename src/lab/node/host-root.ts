import { mkdir, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { dirname, join } from "node:path";

/** Where a node's own files lie in the lab's folder. */
export function hostRootOf(directory: string, node: string): string {
  return join(directory, "hosts", node);
}

/**
 * Makes up the files of a node that has an NFS client and no SELinux. The lab's machines mount by programs of their own, so whatever
 * this machine has says nothing of what they can.
 */
export async function makeHostRoot(root: string): Promise<void> {
  const modules = join("lib/modules", release());
  const files = {
    "bin/mount": "",
    "sbin/mount.nfs": "",
    [join(modules, "modules.dep")]: "kernel/fs/nfs/nfs.ko:\nkernel/fs/nfs/nfsv3.ko: kernel/fs/nfs/nfs.ko\n",
    [join(modules, "modules.builtin")]: "",
  };
  await mkdir(join(root, "sys/fs"), { recursive: true, mode: 0o700 });
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true, mode: 0o700 });
    await writeFile(join(root, path), content);
  }
}
