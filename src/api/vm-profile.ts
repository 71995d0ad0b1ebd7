import type * as z from "zod";
import { bootProfile } from "./boot-profile.ts";
import type { ObjectMeta } from "./common.ts";
import type { API_VERSION } from "./group.ts";

/** What was learned from a VM's boots. Made by the operator, named after the VM; people may delete it. */
export const vmProfileSpec = bootProfile.describe("The extents that the machine reads while it boots, in order.");

export interface VMProfile {
  apiVersion: typeof API_VERSION;
  kind: "VMProfile";
  metadata: ObjectMeta;
  spec: z.infer<typeof vmProfileSpec>;
}
