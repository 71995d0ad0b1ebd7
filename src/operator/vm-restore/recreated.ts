import { type CarriedObjects, readCarried } from "./manifest/carried-objects.ts";
import { at } from "./manifest/shape.ts";
import { restoreNames } from "./names.ts";
import type { Observed } from "./observed.ts";
import { type Recreated, recreate } from "./recreate.ts";

/** The machine that is to be made, with what the snapshot carries for it; undefined where no manifest is known. */
export function recreated(
  { restore, spec, agent }: Pick<Observed, "restore" | "spec" | "agent">,
  disks: readonly { readonly name: string }[],
): { readonly made: Recreated; readonly carried: CarriedObjects } | undefined {
  const { manifest: choice, name } = spec.virtualMachine;
  const manifest = choice.from === "Inline" ? choice.template : agent.manifest;
  if (manifest === undefined) return undefined;
  const names = restoreNames(restore, name);
  const claims = new Map(disks.map((disk) => [disk.name, names.served(disk.name).claim]));
  const backedUpAs = at(manifest, "metadata").name;
  const carried = readCarried(agent.objects, typeof backedUpAs === "string" ? backedUpAs : undefined);
  return { made: recreate(restore, spec, manifest, claims, carried), carried };
}
