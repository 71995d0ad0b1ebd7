import { Command, InvalidArgumentError } from "commander";
import { terminationSignal } from "../termination.ts";

interface Options {
  readonly namespace: string;
  readonly image: string;
  readonly s3ServiceAccount?: string;
  readonly maxRestoresPerNamespace?: number;
  readonly checkNodes?: boolean;
  readonly shareBlobs: boolean;
  readonly kubeconfig?: string;
  readonly listen?: string;
}

export function operatorCommand(): Command {
  return new Command("operator")
    .description("run the controllers of VMRestore and BackupRepository")
    .requiredOption("--namespace <namespace>", "where the operator, the media agents, their claims and keys live")
    .option("--image <image>", "the image of the pods that it makes", "vmrestore")
    .option(
      "--s3-service-account <name>",
      "the identity that S3 repositories without a Secret are read with, for all tenants; by default they are refused",
    )
    .option(
      "--max-restores-per-namespace <number>",
      "how many restores of one namespace may be under way at once; by default any number",
      positiveInteger,
    )
    .option("--check-nodes", "look at nodes, by a short pod on each, before machines are started on them")
    .option("--no-share-blobs", "let each media agent fetch for itself alone, and none give to others what it fetched")
    .option("--kubeconfig <file>", "how to reach the cluster; by default the pod's service account")
    .option(
      "--listen <address>",
      "ip:port of health and metrics; by default :9464, which is every address, and outside a cluster any free port",
    )
    .action(
      async ({
        namespace,
        image,
        s3ServiceAccount,
        maxRestoresPerNamespace,
        checkNodes,
        shareBlobs,
        kubeconfig,
        listen,
      }: Options) => {
        const [{ runOperator }, { listenAddress }] = await Promise.all([
          import("../../operator/run.ts"),
          import("../listen-address.ts"),
        ]);
        await runOperator(
          {
            namespace,
            image,
            shareBlobs,
            listen: listenAddress(listen ?? (kubeconfig === undefined ? ":9464" : "127.0.0.1:0")),
            ...(s3ServiceAccount === undefined ? {} : { s3ServiceAccount }),
            ...(maxRestoresPerNamespace === undefined ? {} : { maxRestoresPerNamespace }),
            ...(checkNodes === undefined ? {} : { checkNodes }),
            ...(kubeconfig === undefined ? {} : { kubeconfig }),
          },
          terminationSignal(),
        );
      },
    );
}

function positiveInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("give a whole number above 0");
  return value;
}
