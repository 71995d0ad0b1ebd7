import { VmRestoreError } from "../../base/errors.ts";
import type { Container } from "./pod-spec.ts";

/** A pod that this node cannot run. */
export class PodRefusedError extends VmRestoreError {
  constructor(message: string, hint?: string) {
    super("LAB_POD_REFUSED", message, hint === undefined ? {} : { hint });
  }
}

/** A path in the container and the folder or file of this machine that stands for it. */
export interface PathMapping {
  readonly inside: string;
  readonly outside: string;
}

export interface CommandLine {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The command of a container as a child process of this machine. There are no mount namespaces: where an argument or a variable
 * names a mounted path, it is given the folder that stands for it instead. Paths inside files are not seen, which is why this
 * product passes none there (docs/decisions/0002).
 *
 * @param env variables with their values, the container's own
 */
export function commandLine(
  container: Container,
  env: Readonly<Record<string, string>>,
  mappings: readonly PathMapping[],
): CommandLine {
  const [program, ...rest] = [...(container.command ?? []), ...(container.args ?? [])];
  if (program !== "vmrestore") {
    throw new PodRefusedError(
      `container ${container.name} does not run \`vmrestore\``,
      "The lab runs this product's own commands only.",
    );
  }
  const longestFirst = [...mappings].sort((a, b) => b.inside.length - a.inside.length);
  const place = (text: string): string => mapPaths(expand(text, env), longestFirst);
  return {
    args: rest.map(place),
    env: Object.fromEntries(Object.entries(env).map(([name, value]) => [name, mapPaths(value, longestFirst)])),
  };
}

/** `$(NAME)` becomes the variable's value, `$$(NAME)` stays as `$(NAME)` (Kubernetes, "Define a command"). */
export function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$(\$?)\(([A-Za-z_][A-Za-z0-9_]*)\)/g, (whole, escaped: string, name: string) => {
    if (escaped !== "") return whole.slice(1);
    return env[name] ?? whole;
  });
}

/** Replaces mounted paths where a path begins: at the start, or behind `=`, `:` or `,`. */
function mapPaths(text: string, longestFirst: readonly PathMapping[]): string {
  for (const { inside, outside } of longestFirst) {
    const path = inside.replace(/\/+$/, "");
    const found = new RegExp(`(^|[=:,])${path.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?=$|[/,:])`, "g");
    if (found.test(text)) return text.replace(found, (_whole, before: string) => before + outside);
  }
  return text;
}
