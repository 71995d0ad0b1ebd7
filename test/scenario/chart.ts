import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

const ROOT = join(import.meta.dirname, "../..");
const CHART = join(ROOT, "charts/vmrestore-operator");

export interface Rendered {
  kind: string;
  apiVersion: string;
  metadata: { name: string; namespace?: string; labels: Record<string, string>; annotations?: object };
  // biome-ignore lint/suspicious/noExplicitAny: rendered objects of many kinds, looked at field by field
  [field: string]: any;
}

/**
 * Renders the chart with Go's text/template and sprig, the engine and library that Helm uses.
 *
 * @param present objects of the cluster, by `kind/namespace/name`
 */
export function render(values: object, release = "vmrestore", present: object = {}): Rendered[] {
  const names = { Name: release, Namespace: "vmrestore-system", Service: "Helm" };
  const input = { Values: values, Release: names, Cluster: present };
  const run = spawnSync("go", ["run", join(ROOT, "test/chart/render.go"), CHART], {
    input: JSON.stringify(input),
    encoding: "utf8",
    env: { ...process.env, GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOFLAGS: "" },
  });
  if (run.status !== 0) throw new Error(`rendering failed: ${run.stderr}`);
  return parseAllDocuments(run.stdout)
    .map((document) => {
      if (document.errors.length > 0) throw document.errors[0];
      return document.toJS() as Rendered | null;
    })
    .filter((object) => object !== null);
}
