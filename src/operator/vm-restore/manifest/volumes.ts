import type { VMRestoreSpec } from "../../../api/vm-restore.ts";
import { DISK_FIELDS } from "./domain-fields.ts";
import { at, isRecord, type LeftOut, takeFields } from "./shape.ts";
import { type Named, parseManifest, type SourceManifest } from "./source-manifest.ts";
import { SERVICE_ACCOUNT_VOLUME, VOLUME_FIELDS } from "./volume-fields.ts";

type Volume = { name: string; [source: string]: unknown };

/** Names of Secrets that this product makes beside a machine: certificates that open a media agent. */
const OWN_SECRET = /^vmr-[0-9a-f]{8}-/;

/** The volumes that the new machine gets: a restored disk's leads to our claim, the others as far as they are known. */
export function volumesOf(
  source: SourceManifest,
  claims: ReadonlyMap<string, string>,
  spec: VMRestoreSpec,
  leftOut: LeftOut,
): Volume[] {
  const seen = new Set<string>();
  return (source.spec.template.spec.volumes ?? []).flatMap((volume): Volume[] => {
    const { name } = volume;
    if (seen.has(name)) {
      leftOut.note(`volume ${name}`);
      return [];
    }
    seen.add(name);
    const claimName = claims.get(name);
    if (claimName !== undefined) return [{ name, persistentVolumeClaim: { claimName, ...hotplug(volume) } }];
    const known =
      spec.virtualMachine.serviceAccounts === "Keep" ? [VOLUME_FIELDS, SERVICE_ACCOUNT_VOLUME] : [VOLUME_FIELDS];
    const sources = Object.keys(volume).filter((field) => field !== "name");
    const [field = ""] = sources;
    const isKnown = sources.length === 1 && known.some((fields) => Object.hasOwn(fields, field));
    if (!isKnown) {
      leftOut.note(`volume ${name}`);
      return [];
    }
    const { name: _, ...given } = volume;
    const taken = takeFields(given, Object.assign({}, ...known), `volume ${name}`, leftOut);
    if (taken[field] === undefined || namesOwnSecret(taken)) {
      leftOut.note(`volume ${name}`);
      return [];
    }
    return [{ name, ...taken }];
  });
}

/** KubeVirt attaches such a volume once the machine runs, and lets it be taken away again. */
function hotplug({ persistentVolumeClaim, dataVolume }: Named): { hotpluggable?: true } {
  const isHotplugged = [persistentVolumeClaim, dataVolume].some(
    (source) => isRecord(source) && source.hotpluggable === true,
  );
  return isHotplugged ? { hotpluggable: true } : {};
}

function namesOwnSecret(value: unknown): boolean {
  if (typeof value === "string") return OWN_SECRET.test(value);
  return typeof value === "object" && value !== null && Object.values(value).some(namesOwnSecret);
}

/** The disks and file system shares whose volume the new machine has. */
export function volumeDevices(
  source: SourceManifest,
  kept: ReadonlySet<string>,
  claims: ReadonlyMap<string, string>,
  leftOut: LeftOut,
) {
  const { disks, filesystems } = source.spec.template.spec.domain.devices ?? {};
  const there = ({ name }: Named): boolean => kept.has(name);
  const shares = (filesystems ?? []).filter(there).map(({ name }) => ({ name, virtiofs: {} }));
  return {
    disks: (disks ?? [])
      .filter(there)
      .map((disk) => (claims.has(disk.name) ? restoredDisk(disk, leftOut) : otherDisk(disk, leftOut))),
    ...(shares.length === 0 ? {} : { filesystems: shares }),
  };
}

function otherDisk(disk: Named, leftOut: LeftOut) {
  return takeFields(disk, DISK_FIELDS, `disk ${disk.name}`, leftOut);
}

/**
 * `cache: none` makes QEMU see an error of the storage as it happens, so that `errorPolicy: stop` pauses the guest instead of failing
 * its disk. A LUN needs a SCSI device behind it, which a file is not; a shared disk could not be relocated live.
 */
function restoredDisk(disk: Named, leftOut: LeftOut) {
  const { lun, shareable, changedBlockTracking: _, ...given } = disk;
  if (shareable === true) leftOut.note(`disk ${disk.name}.shareable`);
  const taken = takeFields(given, DISK_FIELDS, `disk ${disk.name}`, leftOut);
  if (taken.disk === undefined && taken.cdrom === undefined) {
    const { reservation: __, ...target } = isRecord(lun) ? lun : {};
    taken.disk = takeFields(
      { disk: target },
      { disk: DISK_FIELDS.disk ?? { is: "flag" } },
      `disk ${disk.name}`,
      leftOut,
    ).disk;
  }
  return { ...taken, cache: "none", errorPolicy: "stop" };
}

/** The volumes of a manifest that are disks of its own: on a claim, or not said on what. */
export function diskVolumes(manifest: unknown): { name: string; claim?: string }[] {
  const source = parseManifest(manifest);
  if (typeof source === "string") return [];
  return (source.spec.template.spec.volumes ?? []).flatMap((volume) => {
    const claim = at(volume, "persistentVolumeClaim").claimName ?? at(volume, "dataVolume").name;
    if (typeof claim === "string" && claim.length > 0 && claim.length <= 253) return [{ name: volume.name, claim }];
    return Object.keys(volume).length === 1 ? [{ name: volume.name }] : [];
  });
}
