import * as z from "zod";

const record = z.record(z.string(), z.unknown());
const named = z.looseObject({ name: z.string().min(1).max(63) });

/** Just enough of a VirtualMachine to go through it field by field. Whatever else it holds is looked at there. */
const sourceManifest = z.looseObject({
  apiVersion: z.string().regex(/^kubevirt\.io\//),
  kind: z.literal("VirtualMachine"),
  metadata: z.looseObject({
    name: z.string().min(1).max(253),
    labels: record.nullish(),
    annotations: record.nullish(),
  }),
  spec: z.looseObject({
    runStrategy: z.enum(["Always", "RerunOnFailure", "Once", "Manual", "Halted", "WaitAsReceiver"]).nullish(),
    running: z.boolean().nullish(),
    instancetype: record.nullish(),
    preference: record.nullish(),
    template: z.looseObject({
      metadata: z.looseObject({ labels: record.nullish(), annotations: record.nullish() }).nullish(),
      spec: z.looseObject({
        domain: z.looseObject({
          firmware: record.nullish(),
          devices: z
            .looseObject({
              disks: z.array(named).max(256).nullish(),
              interfaces: z.array(named).max(64).nullish(),
              filesystems: z.array(named).max(64).nullish(),
            })
            .nullish(),
        }),
        networks: z.array(named).max(64).nullish(),
        volumes: z.array(named).max(256).nullish(),
      }),
    }),
  }),
  status: record.nullish(),
});

export type SourceManifest = z.infer<typeof sourceManifest>;
export type Named = z.infer<typeof named>;

/** The manifest; or, as a string, what is wrong with it. */
export function parseManifest(manifest: unknown): SourceManifest | string {
  const parsed = sourceManifest.safeParse(manifest);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  return `${issue?.path.join(".").slice(0, 200)}: ${issue?.message}`;
}
