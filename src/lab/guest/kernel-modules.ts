import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { GuestImageError } from "./disk-layout.ts";

/** The names that a module's `.modinfo` section says it depends on. */
export function moduleDependencies(image: Uint8Array): string[] {
  const text = Buffer.from(image).toString("latin1");
  const match = /(?:^|\0)depends=([^\0]*)\0/.exec(text);
  if (match?.[1] === undefined || match[1] === "") return [];
  return match[1].split(",").map(canonical);
}

/**
 * Files of the wanted kernel modules and of all they depend on, each after its dependencies, so that `insmod` in this order works.
 * Debian's kernel packages hold no `modules.dep`: that is made when they are installed.
 *
 * @param root the folder that is searched, e.g. `…/lib/modules/6.1.0-1-cloud-amd64`
 */
export async function modulesInLoadOrder(root: string, wanted: readonly string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for (const entry of await readdir(root, { recursive: true })) {
    if (entry.endsWith(".ko")) files.set(canonical(basename(entry, ".ko")), join(root, entry));
  }
  const ordered: string[] = [];
  const done = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (done.has(name)) return;
    done.add(name);
    const file = files.get(name);
    if (file === undefined) throw new GuestImageError(`the kernel package has no module ${name}`);
    for (const dependency of moduleDependencies(await readFile(file))) await visit(dependency);
    ordered.push(file);
  };
  for (const name of wanted) await visit(canonical(name));
  return ordered;
}

function canonical(name: string): string {
  return name.replaceAll("-", "_");
}
