import type { Backend } from "../backends/backend.ts";

/** Copies all of a small repository to another place. */
export async function copyRepository(from: Backend, to: Backend): Promise<void> {
  for (const type of ["keys", "index", "snapshots", "data"] as const) {
    for (const name of await from.list(type)) await to.save({ type, name }, await from.readAll({ type, name }, 1e9));
  }
  const config = { type: "config", name: "" } as const;
  await to.save(config, await from.readAll(config, 1000));
}
