import { lstat, open } from "node:fs/promises";
import { join } from "node:path";
import type { NodeReport } from "../api/node-report.ts";

/** Lists of modules have some hundred kilobytes. */
const FILE_LIMIT = 8 * 2 ** 20;

/** SELinux's type of the container, as its pod asks for it. */
const CHECK_TYPE = "spc_t";

type Presence = NodeReport["nfs"];

/**
 * Where the node's files are seen. `/proc` shows the node's kernel in every container; the rest is mounted from the node, and only
 * these four folders of it.
 */
export interface NodeFiles {
  /** The node's `/bin`. */
  readonly bin: string;
  /** The node's `/sbin`. */
  readonly sbin: string;
  /** The node's `/lib/modules`. */
  readonly modules: string;
  /** The node's `/sys/fs`. */
  readonly sysfs: string;
  readonly proc: string;
}

/** What a node's files say of its NFS client and of SELinux. Reads only; what cannot be read is `Unknown`. */
export async function readNode(files: NodeFiles): Promise<Omit<NodeReport, "serviceNetwork" | "serviceNetworkError">> {
  const { proc } = files;
  const kernel = ((await readText(join(proc, "sys/kernel/osrelease"))) ?? "").trim().slice(0, 128);
  const modules = kernel === "" || kernel.includes("/") ? undefined : join(files.modules, kernel);
  const [filesystems, dependencies, builtin, helper, selinux] = await Promise.all([
    readText(join(proc, "filesystems")),
    modules === undefined ? undefined : readText(join(modules, "modules.dep")),
    modules === undefined ? undefined : readText(join(modules, "modules.builtin")),
    mountHelper(files),
    readSelinux(files),
  ]);
  const loaded = filesystems?.split("\n").some((line) => line.split("\t").at(-1) === "nfs") === true;
  return {
    kernel,
    nfs: loaded ? "Present" : modulePresence("nfs", dependencies, builtin),
    nfsv3: modulePresence("nfsv3", dependencies, builtin),
    mountHelper: helper,
    ...selinux,
  };
}

/** Only a node whose modules are listed can be said to lack one. */
function modulePresence(name: string, dependencies: string | undefined, builtin: string | undefined): Presence {
  const path = new RegExp(`(^|/)${name}\\.ko(\\.(gz|xz|zst))?(:|$)`, "m");
  if (path.test(dependencies ?? "") || path.test(builtin ?? "")) return "Present";
  return dependencies === undefined || builtin === undefined ? "Unknown" : "Missing";
}

/**
 * `mount` looks for the program of a type in /sbin. Where the node has no `mount` itself, its kubelet runs in a container and
 * brings its own programs, which nobody sees from here.
 */
async function mountHelper({ bin, sbin }: NodeFiles): Promise<Presence> {
  const helper = await presenceOf(join(sbin, "mount.nfs"));
  if (helper !== "Missing") return helper;
  return (await presenceOf(join(bin, "mount"))) === "Present" ? "Missing" : "Unknown";
}

async function readSelinux({ sysfs, proc }: NodeFiles): Promise<Pick<NodeReport, "selinux" | "virtUseNfs">> {
  const folder = join(sysfs, "selinux");
  const enforce = await readText(join(folder, "enforce"));
  if (enforce === undefined) {
    // A kernel without SELinux has no such folder, or an empty one.
    const isOff = (await presenceOf(sysfs)) === "Present" && (await presenceOf(join(folder, "enforce"))) === "Missing";
    return { selinux: isOff ? "Off" : "Unknown", virtUseNfs: "Unknown" };
  }
  // Two numbers: what is so now, and what is going to be.
  const now = (await readText(join(folder, "booleans/virt_use_nfs")))?.trim().split(/\s+/)[0];
  const enforcing = (await isLabelled(proc)) === false ? "Unlabelled" : "Enforcing";
  return {
    selinux: enforce.trim() === "1" ? enforcing : enforce.trim() === "0" ? "Permissive" : "Unknown",
    virtUseNfs: now === "1" ? "On" : now === "0" ? "Off" : "Unknown",
  };
}

/** Whether the runtime gave this container the SELinux type that its pod asks for; undefined where that is not to be seen. */
async function isLabelled(proc: string): Promise<boolean | undefined> {
  const type = (await readText(join(proc, "self/attr/current")))?.replace(/[\0\s]+$/, "").split(":")[2];
  return type === undefined || type === "" ? undefined : type === CHECK_TYPE;
}

/** Links are not followed: they lead to paths of the node that are not seen here. */
async function presenceOf(path: string): Promise<Presence> {
  try {
    await lstat(path);
    return "Present";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "Missing" : "Unknown";
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const file = await open(path);
    try {
      // Files of /proc and /sys have no size.
      const chunks: Buffer[] = [];
      let length = 0;
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(65_536), 0, 65_536);
        if (bytesRead === 0) return Buffer.concat(chunks).toString("latin1");
        length += bytesRead;
        if (length > FILE_LIMIT) return undefined;
        chunks.push(buffer.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}
