import type { OverlayFile } from "./files.ts";

/** One of several operations on files that are carried out one after the other. */
export type FileStep =
  | { readonly kind: "write"; readonly file: OverlayFile; readonly bytes: Uint8Array; readonly offset: number }
  | { readonly kind: "datasync"; readonly file: OverlayFile };

/** One step failed, perhaps after a part of it; those before it are done, those after it were not begun. */
export class StepError extends Error {
  /** Counted from 0. */
  readonly step: number;

  constructor(step: number, cause: unknown) {
    super(`step ${step} failed`, { cause });
    this.step = step;
  }
}

/**
 * Carries out the steps, each when the one before is over.
 *
 * @throws StepError
 */
export async function stepByStep(steps: readonly FileStep[]): Promise<void> {
  for (const [index, step] of steps.entries()) {
    try {
      if (step.kind === "write") await step.file.write(step.bytes, step.offset);
      else await step.file.datasync();
    } catch (error) {
      throw new StepError(index, error);
    }
  }
}
