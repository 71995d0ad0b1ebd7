import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import { servedVolume } from "./served-volume.ts";

const RESTORE: VMRestore = {
  apiVersion: "vmrestore.io/v1alpha1",
  kind: "VMRestore",
  metadata: { name: "orders-db", namespace: "default", uid: "5d307ca9-b3ef-428c-8861-06e72d69f223" },
  spec: {},
};

// Linux refuses a mount whose server is of another family than its `mountproto`; `tcp` alone stands for either.
test.each([
  ["10.96.0.7", "mountproto=tcp"],
  ["fd00:10:96::7", "mountproto=tcp6"],
])("a disk served at %s is mounted with %s", (address, option) => {
  const disk = { name: "root", size: 4096 };
  const { volume } = servedVolume(RESTORE, "orders-db", disk, { address, exportPath: "/x" });
  expect(volume.spec).toMatchObject({
    mountOptions: ["nfsvers=3", "tcp", "nolock", "port=2049", "mountport=2049", option, "hard"],
    nfs: { server: address },
  });
});
