import { readFileSync } from "node:fs";
import * as z from "zod";
import { type AgentConfig, agentConfig } from "../api/agent-config.ts";
import { type BootProfile, bootProfile } from "../api/boot-profile.ts";
import { readIfThere } from "../base/durable-file.ts";
import { errorMessage } from "../base/errors.ts";
import { AgentError } from "./errors.ts";

/**
 * Synchronously: how many threads read files is decided by it.
 *
 * @throws AgentError CONFIG_INVALID, naming what is wrong
 */
export function readConfig(path: string): AgentConfig {
  const text = readFileSync(path, "utf8");
  try {
    return agentConfig.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : errorMessage(cause);
    throw new AgentError("CONFIG_INVALID", `the configuration is not understood: ${why}`, {
      cause,
      hint: "Operator and media agent must be of one version.",
    });
  }
}

/** The profile of earlier boots; undefined where there is none. @throws AgentError PROFILE_INVALID */
export async function readProfile(path: string): Promise<BootProfile | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return bootProfile.parse(JSON.parse(text));
  } catch (cause) {
    throw new AgentError("PROFILE_INVALID", "the boot profile is not understood", { cause });
  }
}
