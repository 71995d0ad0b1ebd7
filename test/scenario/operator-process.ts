import { join } from "node:path";
import type { AgentConnector } from "../../src/operator/vm-restore/agent-session.ts";
import type { AgentAnswers } from "./operator-load.ts";

// An operator in a process of its own, as it is shipped, whose media agents all answer that they serve and that nothing happens.
// In the project's folder, with a kubeconfig, its namespace and what agents answer; its log tells where its metrics are.

const { runOperator } = (await import(
  join(process.cwd(), "dist/operator/run.js")
)) as typeof import("../../src/operator/run.ts");
const [kubeconfig = "", namespace = "", said = "{}"] = process.argv.slice(1);
const { status, profile } = JSON.parse(said) as AgentAnswers;
const nothing = async (): Promise<never> => {
  throw new Error("nothing is to be done");
};
const connector: AgentConnector = () => ({
  status: async () => status,
  setPhase: async () => undefined,
  setBus: async () => undefined,
  manifest: nothing,
  objects: nothing,
  stateFiles: nothing,
  profile: async () => profile,
  seal: nothing,
  unseal: nothing,
  setRelocationLimit: nothing,
  setPeers: nothing,
  reportRelocation: nothing,
  unpin: nothing,
  close: () => undefined,
});
const ending = new AbortController();
process.on("SIGTERM", () => ending.abort());
await runOperator(
  { kubeconfig, namespace, image: "vmrestore", listen: { host: "127.0.0.1", port: 0 }, connector },
  ending.signal,
);
