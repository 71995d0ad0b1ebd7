import { WANTED_FORMATS } from "../../api/disk-format.ts";
import type { InspectionRequest } from "../../api/inspection.ts";
import type { VMRestoreSpec } from "../../api/vm-restore.ts";
import { diskVolumes } from "./manifest/volumes.ts";
import { type RepositoryName, repositoryName } from "./repository-grant.ts";

type Selector = VMRestoreSpec["source"]["snapshot"];

/** One snapshot of one repository, and what is looked for in it. */
export interface Source {
  readonly repository: RepositoryName;
  readonly request: InspectionRequest;
}

/**
 * The snapshots that a restore reads, each once: that of `spec.source` first, where anything is looked for in it, then those that
 * single disks name.
 */
export function sourcesOf({ source, virtualMachine }: VMRestoreSpec, restoreNamespace: string | undefined): Source[] {
  const inline = virtualMachine.manifest.from === "Inline" ? virtualMachine.manifest.template : undefined;
  const byDefault = { repository: repositoryName(source.repository, restoreNamespace), snapshot: source.snapshot };
  if (source.disks === undefined) {
    const volumes = inline === undefined ? {} : { volumes: diskVolumes(inline).slice(0, 64) };
    return [{ repository: byDefault.repository, request: { snapshot: selector(byDefault.snapshot), ...volumes } }];
  }
  const groups = new Map<string, { repository: RepositoryName; snapshot: Selector; disks: typeof source.disks }>();
  const add = (place: typeof byDefault, disks: typeof source.disks): void => {
    const key = JSON.stringify([place.repository.namespace, place.repository.name, place.snapshot]);
    const known = groups.get(key);
    if (known === undefined) groups.set(key, { ...place, disks });
    else known.disks = [...known.disks, ...disks];
  };
  // The machine's manifest is looked for there even where no disk is.
  if (inline === undefined) add(byDefault, []);
  for (const disk of source.disks) {
    const { repository, snapshot = byDefault.snapshot } = disk;
    const from = repository === undefined ? byDefault.repository : repositoryName(repository, restoreNamespace);
    add({ repository: from, snapshot }, [disk]);
  }
  return [...groups.values()].map(({ repository, snapshot, disks }) => ({
    repository,
    request: {
      snapshot: selector(snapshot),
      disks: disks.map(({ name, path, format }) => ({ name, path, format: WANTED_FORMATS[format] })),
    },
  }));
}

function selector({ id, latest = {} }: Selector): InspectionRequest["snapshot"] {
  if (id !== undefined) return { id };
  const { host, path, tags, before } = latest;
  return {
    latest: {
      ...(host === undefined ? {} : { host }),
      ...(path === undefined ? {} : { path }),
      ...(tags === undefined ? {} : { tags }),
      ...(before === undefined ? {} : { before }),
    },
  };
}
